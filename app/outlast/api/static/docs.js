// The browser sends its cookie or password by itself, so "Try it out" works without this page knowing the token.
// `location.origin` leaves out a password that the address may carry, with which fetch() would refuse it.
SwaggerUIBundle({
  url: new URL("api/v1/openapi.json", location.origin + location.pathname).href,
  dom_id: "#api",
  validatorUrl: null,
  deepLinking: true,
  tryItOutEnabled: true,
  presets: [SwaggerUIBundle.presets.apis],
});
