// Managed processes: names, restarts, health.

import assert from "node:assert/strict";
import { createServer } from "node:net";

import { check, eventually, gather } from "./client.mjs";

const NAME = "wéb server 1?#%";
const FAST = { initialBackoffMs: 1, maxBackoffMs: 10 };

function until(sandbox, process, holds) {
  return eventually(async () => {
    const seen = await sandbox.getProcess(process);
    return holds(seen.managed) ? seen : null;
  });
}

const stopped = (managed) => managed.status === "stopped";

await check({
  async "a name stands for a process over its runs"(sandbox) {
    const started = await sandbox.startProcess("sh", { args: ["-c", "echo run; exec cat"], name: NAME, stdinMode: "pipe" });
    assert.deepEqual([started.managed.name, started.managed.id, started.managed.restartCount], [NAME, NAME, 0]);
    assert.deepEqual([started.managed.healthStatus, started.managed.restart.policy], ["disabled", "on_failure"]);
    assert.equal((await sandbox.getProcess(NAME)).pid, started.pid);
    await sandbox.writeStdin(NAME, new TextEncoder().encode("heard\n"));
    await eventually(async () => (await sandbox.getStdout(NAME)).lines.length === 2);

    const again = await sandbox.restartProcess(NAME);
    assert.equal(again.handle, started.handle);
    assert.notEqual(again.pid, started.pid);
    await eventually(async () => (await sandbox.getOutput(NAME)).lines.length === 3);
    assert.deepEqual((await sandbox.getOutput(NAME)).lines, ["run", "heard", "run"]);
    await assert.rejects(sandbox.startProcess("true", { name: NAME }), (error) => error.statusCode === 409);
    await sandbox.killProcess(NAME);
    const end = await until(sandbox, NAME, stopped);
    assert.deepEqual([end.status, end.signal], ["signaled", 15]);
    assert.equal((await gather(sandbox.followStdout(NAME))).length, 3);
  },

  async "what fails is started again as often as wanted"(sandbox) {
    const restart = { policy: "on_failure", maxRestarts: 2, ...FAST };
    await sandbox.startProcess("sh", { args: ["-c", "echo run; exit 3"], name: "failing", restart });
    assert.deepEqual((await gather(sandbox.followOutput("failing"))).map((event) => event.line), ["run\n", "run\n", "run\n"]);
    const { managed } = await until(sandbox, "failing", stopped);
    assert.deepEqual([managed.restartCount, managed.lastExit.exitCode, managed.restart.maxRestarts], [2, 3, 2]);
    assert.ok(managed.lastExit.endedAt instanceof Date);
  },

  async "health is looked after"(sandbox) {
    const server = createServer((socket) => socket.destroy());
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address();
    const healthCheck = { type: "tcp", port, initialDelayMs: 0, intervalMs: 50, timeoutMs: 2000, failureThreshold: 2 };
    await sandbox.startProcess("sleep", { args: ["1000"], name: "web", healthCheck, restart: { maxRestarts: 1, ...FAST } });
    await until(sandbox, "web", (managed) => managed.healthStatus === "healthy");
    await new Promise((resolve) => server.close(resolve));
    const { managed } = await until(sandbox, "web", stopped);
    assert.equal(managed.restartCount, 1);
    assert.ok(managed.lastError);
  },

  async "mistakes are named"(sandbox) {
    const plain = await sandbox.startProcess("sleep", { args: ["1000"] });
    assert.equal(plain.managed, undefined);
    await assert.rejects(sandbox.restartProcess(plain.pid), (error) => error.statusCode === 400);
    for (const options of [{ restart: { policy: "sometimes" } }, { healthCheck: { type: "icmp", port: 80 } }, { healthCheck: { type: "tcp" } }]) {
      const [field] = Object.keys(options);
      const named = field === "restart" ? "restart" : "health_check";
      await assert.rejects(sandbox.startProcess("true", options), (error) => error.statusCode === 400 && error.message.includes(named));
    }
  },
});
