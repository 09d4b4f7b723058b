// The browser sends its password by itself, so "Try it out" works without the page knowing the token.
SwaggerUIBundle({
  url: "api/v1/openapi.json",
  dom_id: "#api",
  validatorUrl: null,
  deepLinking: true,
  tryItOutEnabled: true,
  presets: [SwaggerUIBundle.presets.apis],
});
