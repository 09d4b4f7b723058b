// Every call that starts, watches, feeds and ends a process.

import assert from "node:assert/strict";

import { check, connect, ended, eventually, gather } from "./client.mjs";

const NOBODY = 2 ** 22 + 1; // beyond the highest pid that Linux gives
const BOTH_STREAMS = "for i in 0 1 2; do echo out $i; echo err $i >&2; done";
const OUT = ["out 0", "out 1", "out 2"];
const ERR = ["err 0", "err 1", "err 2"];

const lines = (events) => events.map((event) => event.line);
const sorted = (items) => [...items].sort();

function shell(sandbox, script, options = {}) {
  return sandbox.startProcess("sh", { args: ["-c", script], ...options });
}

await check({
  async "start, list and get"(sandbox) {
    const before = Date.now() - 1000;
    const started = await sandbox.startProcess("sleep", { args: ["1000"] });
    assert.equal(started.status, "running");
    assert.equal(started.command, "sleep");
    assert.deepEqual(started.args, ["1000"]);
    assert.equal(started.stdinWritable, false);
    assert.ok(started.startedAt instanceof Date && started.startedAt.getTime() > before);
    const listed = await sandbox.listProcesses();
    assert.deepEqual(listed.map((seen) => [seen.pid, seen.status]), [[started.pid, "running"]]);
    const got = await sandbox.getProcess(started.pid);
    assert.deepEqual([got.pid, got.handle, got.exitCode, got.endedAt], [started.pid, started.handle, undefined, undefined]);
  },

  async "environment, working folder and user"(sandbox) {
    const options = { env: { GREETING: "hello" }, workingDir: "/tmp", user: { uid: process.getuid(), gid: process.getgid() } };
    const started = await shell(sandbox, 'echo "$GREETING from $PWD"', options);
    assert.deepEqual(lines(await gather(sandbox.followOutput(started.pid))), ["hello from /tmp\n"]);
  },

  async "follow gives history and live lines until the end"(sandbox) {
    const started = await shell(sandbox, BOTH_STREAMS);
    const both = await gather(sandbox.followOutput(started.pid));
    assert.deepEqual(sorted(lines(both)), sorted([...OUT, ...ERR].map((line) => `${line}\n`)));
    assert.ok(both.every((event) => event.timestamp instanceof Date && event.line.startsWith(event.stream.slice(3))));
    assert.deepEqual(lines(await gather(sandbox.followStdout(started.pid))), OUT.map((line) => `${line}\n`));
    assert.deepEqual(lines(await gather(sandbox.followStderr(started.pid))), ERR.map((line) => `${line}\n`));
  },

  async "lines arrive while the process runs, as what is written to it is read"(sandbox) {
    const started = await sandbox.startProcess("cat", { stdinMode: "pipe" });
    assert.equal(started.stdinWritable, true);
    const events = sandbox.followOutput(started.pid);
    for (const line of ["one\n", "zwölf\n", "🐙\n"]) {
      await sandbox.writeStdin(started.pid, new TextEncoder().encode(line));
      assert.equal((await events.next()).value.line, line);
      assert.equal((await sandbox.getProcess(started.pid)).status, "running");
    }
    await sandbox.closeStdin(started.pid);
    assert.deepEqual(await gather(events), []);
    const end = await ended(sandbox, started.pid);
    assert.deepEqual([end.status, end.exitCode, end.stdinWritable], ["exited", 0, false]);
  },

  async "a follower may turn away"(sandbox) {
    const started = await sandbox.startProcess("cat", { stdinMode: "pipe" });
    const turned = new AbortController();
    const following = gather(sandbox.followStdout(started.pid, { signal: turned.signal }));
    turned.abort();
    assert.deepEqual(await following, []);
    assert.equal((await sandbox.getProcess(started.pid)).status, "running");
    await sandbox.killProcess(started.pid); // and with it the stream, on which the client still hangs
  },

  async "reading what is stored"(sandbox) {
    const started = await shell(sandbox, BOTH_STREAMS);
    await gather(sandbox.followOutput(started.pid));
    const stdout = await sandbox.getStdout(started.pid);
    assert.deepEqual([stdout.pid, stdout.lines, stdout.lineCount], [started.pid, OUT, 3]);
    assert.deepEqual((await sandbox.getStderr(started.pid)).lines, ERR);
    const both = await sandbox.getOutput(started.pid);
    assert.deepEqual([sorted(both.lines), both.lineCount], [sorted([...OUT, ...ERR]), 6]);
  },

  async "discarded output is not kept"(sandbox) {
    const started = await shell(sandbox, BOTH_STREAMS, { stdoutMode: "discard" });
    assert.deepEqual(lines(await gather(sandbox.followOutput(started.pid))), ERR.map((line) => `${line}\n`));
  },

  async "signals and kill"(sandbox) {
    const started = await shell(sandbox, "trap 'echo USR1' USR1; echo ready; while :; do sleep 0.05; done");
    const said = (line) => eventually(async () => (await sandbox.getStdout(started.pid)).lines.includes(line));
    await said("ready");
    assert.equal((await sandbox.sendSignal(started.pid, 10)).success, true);
    await said("USR1");
    await sandbox.sendSignal(started.pid, 15);
    const end = await ended(sandbox, started.pid);
    assert.deepEqual([end.status, end.signal, end.exitCode], ["signaled", 15, undefined]);
    const other = await sandbox.startProcess("sleep", { args: ["1000"] });
    await sandbox.killProcess(other.pid);
    await sandbox.killProcess(other.pid); // a second time is no error
    assert.equal((await ended(sandbox, other.pid)).signal, 9);
  },

  async "exit code"(sandbox) {
    const started = await shell(sandbox, "exit 7");
    const end = await ended(sandbox, started.pid);
    assert.deepEqual([end.status, end.exitCode, end.signal], ["exited", 7, undefined]);
    assert.ok(end.endedAt >= end.startedAt);
  },

  async "health and info"(sandbox) {
    assert.equal((await sandbox.health()).healthy, true);
    const info = await sandbox.daemonInfo();
    assert.ok(info.version && info.uptimeSecs >= 0 && info.totalProcesses > info.runningProcesses);
  },

  async "errors say what is wrong"(sandbox) {
    const refusal = (statusCode, phrase) => (error) => error.statusCode === statusCode && error.message.includes(phrase);
    for (const call of ["getProcess", "getOutput", "killProcess", "closeStdin"]) {
      await assert.rejects(sandbox[call](NOBODY), refusal(404, ""));
    }
    await assert.rejects(gather(sandbox.followOutput(NOBODY)), refusal(404, ""));
    await assert.rejects(sandbox.sendSignal(NOBODY, 15), refusal(404, ""));
    await assert.rejects(sandbox.startProcess("no-such-command"), refusal(422, "no-such-command"));
    const closed = await sandbox.startProcess("sleep", { args: ["1000"] });
    await assert.rejects(sandbox.writeStdin(closed.pid, new Uint8Array([10])), refusal(400, "stdin_mode"));
    const stranger = connect("a guess");
    await assert.rejects(stranger.listProcesses(), refusal(401, ""));
    stranger.close();
  },
});
