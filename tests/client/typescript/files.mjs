// The file calls.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { check } from "./client.mjs";

const CONTENTS = randomBytes(3 << 20);
const folder = await mkdtemp(join(tmpdir(), "files-"));

await check({
  async "a file is written, read, listed and deleted"(sandbox) {
    const path = join(folder, "new", "file");
    await sandbox.writeFile(path, CONTENTS);
    assert.deepEqual(await readFile(path), CONTENTS);
    assert.deepEqual(Buffer.from(await sandbox.readFile(path)), CONTENTS);
    const { entries } = await sandbox.listDirectory(join(folder, "new"));
    assert.deepEqual(entries.map((one) => [one.name, one.isDir, one.size]), [["file", false, CONTENTS.length]]);
    await sandbox.deleteFile(path);
    assert.deepEqual((await sandbox.listDirectory(join(folder, "new"))).entries, []);
  },
});
await rm(folder, { recursive: true });
