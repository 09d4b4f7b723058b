// Commands run to their end.

import assert from "node:assert/strict";

import { check } from "./client.mjs";

await check({
  async "a run gives what a command printed and how it ended"(sandbox) {
    const script = 'echo "$GREETING from $PWD"; echo second; echo wrong >&2; exit 3';
    const user = { uid: process.getuid(), gid: process.getgid() };
    const options = { args: ["-c", script], env: { GREETING: "hello" }, workingDir: "/tmp", user };
    const done = await sandbox.run("sh", options);
    assert.deepEqual([done.exitCode, done.stdout, done.stderr], [3, "hello from /tmp\nsecond", "wrong"]);

    const silent = await sandbox.run("true");
    assert.deepEqual([silent.exitCode, silent.stdout, silent.stderr], [0, "", ""]);

    const unfinished = await sandbox.run("printf", { args: ["one\\n\\nzwölf 🐙"] });
    assert.equal(unfinished.stdout, "one\n\nzwölf 🐙");

    const killed = await sandbox.run("sh", { args: ["-c", "echo before; kill -TERM $$"] });
    assert.deepEqual([killed.exitCode, killed.stdout], [-15, "before"]);

    const kept = await sandbox.listProcesses();
    assert.equal(kept.length, 4);
    assert.deepEqual((await sandbox.getOutput(kept[0].pid)).lines, ["before"]);
  },

  async "a timeout kills"(sandbox) {
    const done = await sandbox.run("sh", { args: ["-c", "echo before; sleep 1000"], timeout: 1.5 });
    assert.deepEqual([done.exitCode, done.stdout], [-9, "before"]);
    const inTime = await sandbox.run("echo", { args: ["hello"], timeout: 1000 });
    assert.deepEqual([inTime.exitCode, inTime.stdout], [0, "hello"]);
  },

  async "several at once"(sandbox) {
    const numbers = [0, 1, 2, 3];
    const done = await Promise.all(numbers.map((number) => sandbox.run("sh", { args: ["-c", `echo ${number}; exit ${number}`] })));
    assert.deepEqual(done.map((each) => [each.exitCode, each.stdout]), numbers.map((number) => [number, String(number)]));
  },

  async "a run that can not start says why"(sandbox) {
    await assert.rejects(sandbox.run("no-such-command"), (error) => error.statusCode === 422 && error.message.includes("no-such-command"));
    await assert.rejects(sandbox.run("true", { timeout: -1 }), (error) => error.statusCode === 400 && error.message.includes("timeout"));
  },
});
