// What the scripts share: the client, connected to the daemon under test, and a line for each check that passed.

import { Sandbox } from "tensorlake";

const DEADLINE_MS = 20_000;
const LOOK_AGAIN_MS = 10;

export const url = process.env.OUTLAST_URL;

export function connect(apiKey = process.env.OUTLAST_TOKEN) {
  return new Sandbox({ sandboxId: "local", identifier: "local", proxyUrl: url, apiKey });
}

/** Run the checks one after the other, each with a client of its own. */
export async function check(checks) {
  for (const [name, run] of Object.entries(checks)) {
    const sandbox = connect();
    try {
      await run(sandbox);
    } catch (error) {
      console.error(`not ok - ${name}`);
      throw error;
    } finally {
      sandbox.close();
    }
    console.log(`ok - ${name}`);
  }
}

/** Return the first true answer of `look`, which is asked again and again until the deadline. */
export async function eventually(look) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const answer = await look();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`did not come true: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

export async function gather(events) {
  const gathered = [];
  for await (const event of events) gathered.push(event);
  return gathered;
}

export function ended(sandbox, pid) {
  return eventually(async () => {
    const seen = await sandbox.getProcess(pid);
    return seen.status === "running" ? null : seen;
  });
}
