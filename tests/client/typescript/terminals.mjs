// Terminals.

import assert from "node:assert/strict";

import { check, eventually } from "./client.mjs";

/** Keep what a terminal shows as text. */
function listener() {
  const decoder = new TextDecoder();
  const heard = { text: "", onData: (data) => (heard.text += decoder.decode(data, { stream: true })) };
  return heard;
}

await check({
  async "a program in a terminal is typed to and ends"(sandbox) {
    const heard = listener();
    let told;
    const pty = await sandbox.createPty({
      command: "sh",
      args: ["-c", 'stty -echo; stty size; read line; echo "$GREETING $line from $PWD"; exit 7'],
      env: { GREETING: "hello" },
      workingDir: "/tmp",
      rows: 30,
      cols: 100,
      onData: heard.onData,
      onExit: (code) => (told = code),
    });
    await eventually(() => heard.text.includes("30 100"));
    await pty.sendInput("zwölf 🐙\n");
    assert.equal(await pty.wait(), 7);
    assert.equal(told, 7);
    assert.ok(heard.text.endsWith("hello zwölf 🐙 from /tmp\r\n"), heard.text);
  },

  async "a terminal has the size that it is given"(sandbox) {
    const heard = listener();
    const script = 'trap "stty size; exit 0" WINCH; echo ready; while :; do sleep 0.01; done';
    const pty = await sandbox.createPty({ command: "sh", args: ["-c", script], onData: heard.onData });
    await eventually(() => heard.text.includes("ready"));
    await pty.resize(132, 43);
    assert.equal(await pty.wait(), 0);
    assert.ok(heard.text.includes("43 132"), heard.text);
  },

  async "a client that comes back is shown what it has missed"(sandbox) {
    const session = await sandbox.createPtySession({ command: "cat" });
    const first = listener();
    const pty = await sandbox.connectPty(session.sessionId, session.token, { onData: first.onData });
    await pty.sendInput("before\n");
    await eventually(() => first.text.includes("before\r\nbefore"));
    await pty.disconnect();
    const second = listener();
    const again = await sandbox.connectPty(session.sessionId, session.token, { onData: second.onData });
    await eventually(() => second.text.includes("before\r\nbefore"));
    await again.sendInput("after\n");
    await eventually(() => second.text.includes("after\r\nafter"));
    await again.sendInput("\x04");
    assert.equal(await again.wait(), 0);
  },

  async "a terminal is killed"(sandbox) {
    const pty = await sandbox.createPty({ command: "sleep", args: ["1000"] });
    await pty.kill();
    assert.equal(await pty.wait(), -1);
  },

  async "a program that can not start says why"(sandbox) {
    await assert.rejects(sandbox.createPty({ command: "no-such-command" }), (error) => error.message.includes("no-such-command"));
  },
});
