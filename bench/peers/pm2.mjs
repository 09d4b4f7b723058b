// A pm2 that runs one shell script when a line comes, and ends both at SIGTERM.
// node pm2.mjs SCRIPT OUTPUT READY: the output goes to OUTPUT; READY is made when pm2 takes calls.
import fs from "node:fs";
import path from "node:path";
import pm2 from "pm2";

const [script, output, ready] = process.argv.slice(2);

const flood = {
  name: "flood",
  script,
  interpreter: "/bin/sh",
  cwd: path.dirname(script),
  output,
  error: "/dev/null",
  merge_logs: true, // else the file's name gets a number
  autorestart: false,
};

process.once("SIGTERM", () => pm2.delete("all", () => process.exit()));

// Its daemon in this process, as in a container: none is left behind when this one is killed.
pm2.connect(true, (refused) => {
  if (refused) throw refused;
  process.stdin.once("data", () =>
    pm2.start(flood, (failed) => {
      if (failed) throw failed;
    }),
  );
  fs.writeFileSync(ready, "");
});
