// dockerode over its wide surface. Each section is run; the program ends with 1 when one of them failed.
// NAME: what its objects are called after. REGISTRY: host:port of a registry that takes pushes. SUBNET: the first three
// numbers of addresses that it may use.
const assert = require('node:assert/strict');
const { PassThrough, Readable } = require('node:stream');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const zlib = require('node:zlib');
const tar = require('tar-stream');
const Docker = require('dockerode');

const { NAME, REGISTRY, SUBNET } = process.env;
const docker = new Docker();
const LABELS = { client: NAME };
const MINE = { label: [`client=${NAME}`] };

const sections = [];
const section = (what, run) => sections.push([what, run]);

/** Everything that a stream gives. */
async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

/** The two streams of a multiplexed one. */
async function demux(stream) {
  const out = new PassThrough();
  const err = new PassThrough();
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  stream.on('close', () => { out.end(); err.end(); });
  const [o, e] = await Promise.all([all(out), all(err)]);
  return [o.toString(), e.toString()];
}

/** The lines of a stream of progress; an error among them is thrown, as dockerode itself does not. */
async function progress(stream) {
  const lines = await new Promise((resolve, reject) =>
    docker.modem.followProgress(stream, (error, lines) => (error ? reject(error) : resolve(lines))));
  const failed = lines.find((line) => line.error);
  if (failed) throw new Error(failed.error);
  return lines;
}

async function fails(status, message, promise) {
  const error = await promise.then(() => null, (error) => error);
  assert.ok(error, `an error ${status} is expected`);
  assert.equal(error.statusCode, status, error.message);
  assert.match(String(error.json?.message ?? error.message), message);
}

const sleeper = (options = {}) => docker.createContainer({
  Image: 'busybox', Cmd: ['sh', '-c', "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"], Labels: LABELS, ...options,
});

function pack(files) {
  const p = tar.pack();
  for (const [name, data] of Object.entries(files)) p.entry({ name, mode: 0o640 }, data);
  p.finalize();
  return p;
}

async function unpack(stream) {
  const files = {};
  const extract = tar.extract();
  extract.on('entry', async (header, body, next) => {
    files[header.name] = { header, data: (await all(body)).toString() };
    next();
  });
  stream.pipe(extract);
  await once(extract, 'finish');
  return files;
}

section('system', async () => {
  assert.equal((await docker.ping()).toString(), 'OK');
  const version = await docker.version();
  assert.equal(version.Os, 'linux');
  assert.match(version.ApiVersion, /^1\.\d+$/);
  const info = await docker.info();
  assert.equal(info.OSType, 'linux');
  assert.ok(info.NCPU > 0 && info.MemTotal > 0 && info.ID);
  const df = await docker.df();
  assert.ok(Array.isArray(df.Images) && Array.isArray(df.Containers) && Array.isArray(df.Volumes));
});

section('run with output', async () => {
  const out = new PassThrough();
  const err = new PassThrough();
  const both = Promise.all([all(out), all(err)]);
  const [data, container] = await docker.run('busybox', ['sh', '-c', 'echo out; echo err >&2; exit 3'], [out, err],
    { Tty: false, Labels: LABELS });
  out.end(); err.end();
  const [o, e] = await both;
  assert.equal(data.StatusCode, 3);
  assert.equal(o.toString(), 'out\n');
  assert.equal(e.toString(), 'err\n');
  const [logsOut, logsErr] = await demux(await container.logs({ stdout: true, stderr: true, follow: true }));
  assert.deepEqual([logsOut, logsErr], ['out\n', 'err\n']);
  const tail = await container.logs({ stdout: true, tail: 2, timestamps: true });
  assert.match(tail.subarray(8).toString(), /^\d{4}-\d\d-\d\dT[\d:.]+Z out\n$/);
  await container.remove();
  await fails(404, /No such container/, container.inspect());
});

section('attach without a terminal', async () => {
  const container = await docker.createContainer({
    Image: 'busybox', Cmd: ['cat'], OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, Labels: LABELS,
  });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  await container.start();
  const answer = demux(stream);
  stream.write('one\n');
  stream.end('two\n');
  assert.deepEqual(await answer, ['one\ntwo\n', '']);
  assert.equal((await container.wait()).StatusCode, 0);
  await container.remove();
});

section('attach with a terminal', async () => {
  const container = await docker.createContainer({
    Image: 'busybox', Cmd: ['sh'], Tty: true, OpenStdin: true, Labels: LABELS,
  });
  const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  await container.start();
  await container.resize({ h: 33, w: 101 });
  const answer = all(stream);
  stream.write('stty size\nexit 7\n');
  const text = (await answer).toString();
  assert.match(text, /33 101\r\n/);
  assert.equal((await container.wait()).StatusCode, 7);
  await container.remove();
});

section('exec', async () => {
  const container = await sleeper();
  await container.start();
  const exec = await container.exec({ Cmd: ['sh', '-c', 'cat; echo $A >&2; exit 4'], Env: ['A=b'], AttachStdin: true, AttachStdout: true, AttachStderr: true, WorkingDir: '/tmp' });
  const stream = await exec.start({ hijack: true, stdin: true });
  const answer = demux(stream);
  stream.end('typed\n');
  assert.deepEqual(await answer, ['typed\n', 'b\n']);
  const state = await exec.inspect();
  assert.equal(state.ExitCode, 4);
  assert.equal(state.Running, false);
  assert.equal(state.ContainerID, container.id);
  const tty = await container.exec({ Cmd: ['tty'], Tty: true, AttachStdout: true });
  assert.match((await all(await tty.start({ Tty: true, hijack: true }))).toString(), /\/dev\/pts\/\d+\r\n/);
  const detached = await container.exec({ Cmd: ['touch', '/made'] });
  await detached.start({ Detach: true });
  while ((await detached.inspect()).Running) await new Promise((r) => setTimeout(r, 5));
  assert.equal((await detached.inspect()).ExitCode, 0);
  const top = await container.top({ ps_args: '-ef' });
  assert.ok(top.Processes.some((row) => row.join(' ').includes('sleep')), JSON.stringify(top));
  await fails(404, /No such exec instance/, docker.getExec('0'.repeat(64)).inspect());
  const missing = await container.exec({ Cmd: ['/no/such'], AttachStdout: true });
  const error = await missing.start({ hijack: true }).then((s) => all(s), (e) => e);
  assert.ok(String(error).includes('no such file'), String(error));
  await container.remove({ force: true });
});

section('life of a container', async () => {
  const container = await sleeper({ name: `${NAME}-life`, HostConfig: { Memory: 64 << 20, RestartPolicy: { Name: 'no' } } });
  await container.start();
  await fails(409, /already in use/, sleeper({ name: `${NAME}-life` }));
  await container.pause();
  assert.equal((await container.inspect()).State.Paused, true);
  await container.unpause();
  await container.update({ Memory: 96 << 20, MemorySwap: -1 });
  assert.equal((await container.inspect()).HostConfig.Memory, 96 << 20);
  await container.rename({ name: `${NAME}-renamed` });
  const [listed] = await docker.listContainers({ filters: { ...MINE, status: ['running'], name: [`${NAME}-renamed`] } });
  assert.deepEqual(listed.Names, [`/${NAME}-renamed`]);
  await container.restart({ t: 5 });
  await container.stop({ t: 5 });
  await fails(304, /.*/, container.stop());
  const { State } = await container.inspect({ size: true });
  assert.deepEqual([State.Status, State.ExitCode], ['exited', 0]);
  await container.start();
  await fails(304, /.*/, container.start());
  await fails(409, /running|force/, container.remove());
  const gone = container.wait({ condition: 'removed' });
  const next = container.wait({ condition: 'next-exit' });
  await container.kill({ signal: 'SIGKILL' });
  assert.equal((await next).StatusCode, 137);
  await fails(409, /not running/, container.kill());
  await container.remove({ v: true });
  assert.equal((await gone).StatusCode, 137);
});

section('files up and down', async () => {
  const container = await sleeper();
  await container.putArchive(pack({ 'a.txt': 'alpha', 'd/b.txt': 'beta' }), { path: '/tmp' });
  const files = await unpack(await container.getArchive({ path: '/tmp/a.txt' }));
  assert.equal(files['a.txt'].data, 'alpha');
  assert.equal(files['a.txt'].header.mode & 0o777, 0o640);
  const info = await container.infoArchive({ path: '/tmp/a.txt' });
  const stat = JSON.parse(Buffer.from(info.headers['x-docker-container-path-stat'], 'base64').toString());
  assert.deepEqual([stat.name, stat.size], ['a.txt', 5]);
  const changes = await container.changes();
  assert.ok(changes.some((c) => c.Path === '/tmp/a.txt' && c.Kind === 1), JSON.stringify(changes));
  const whole = await unpack(await container.export());
  assert.equal(whole['tmp/d/b.txt'].data, 'beta');
  await fails(404, /Could not find the file/, container.getArchive({ path: '/nowhere' }));
  await fails(404, /Could not find the file/, container.putArchive(pack({ a: 'a' }), { path: '/nowhere' }));
  const image = await container.commit({ repo: `${NAME}-committed`, tag: 'one', comment: 'by dockerode', changes: 'ENV X=y' });
  const inspected = await docker.getImage(image.Id).inspect();
  assert.ok(inspected.Config.Env.includes('X=y'));
  await docker.getImage(`${NAME}-committed:one`).remove();
  await container.remove();
});

section('statistics', async () => {
  const container = await sleeper();
  await container.start();
  const once1 = await container.stats({ stream: false, 'one-shot': true });
  assert.ok(once1.memory_stats.usage > 0 && once1.pids_stats.current > 0);
  const stream = await container.stats({ stream: true });
  let buffered = '';
  const seen = [];
  for await (const part of stream) {
    buffered += part;
    for (let at; (at = buffered.indexOf('\n')) >= 0; buffered = buffered.slice(at + 1)) seen.push(JSON.parse(buffered.slice(0, at)));
    if (seen.length >= 2) break;
  }
  stream.destroy();
  assert.equal(seen[1].id, container.id);
  assert.equal(seen[1].precpu_stats.cpu_usage.total_usage, seen[0].cpu_stats.cpu_usage.total_usage);
  await container.remove({ force: true });
});

section('logs that are followed', async () => {
  const container = await docker.createContainer({
    Image: 'busybox', Cmd: ['sh', '-c', 'echo first; read x; echo "got $x"'], OpenStdin: true, Labels: LABELS,
  });
  await container.start();
  const stream = await container.logs({ follow: true, stdout: true, stderr: true });
  let text = '';
  const out = new PassThrough();
  docker.modem.demuxStream(stream, out, out);
  stream.on('end', () => out.end());
  let told = false;
  for await (const part of out) {
    text += part;
    if (!told && text.includes('first')) {
      told = true;
      const input = await container.attach({ stream: true, stdin: true, hijack: true });
      input.end('word\n');
    }
  }
  assert.equal(text, 'first\ngot word\n');
  await container.remove();
});

section('build', async () => {
  const context = pack({ Dockerfile: 'FROM busybox\nARG WHO\nCOPY f /f\nRUN echo "$WHO" >> /f\nLABEL a=b\n', f: 'base\n' });
  const lines = await progress(await docker.buildImage(context.pipe(zlib.createGzip()), { t: `${NAME}-built:1`, buildargs: { WHO: 'me' }, labels: LABELS }));
  assert.ok(lines.some((l) => /Successfully built [0-9a-f]{12}/.test(l.stream)), JSON.stringify(lines));
  const id = lines.find((l) => l.aux).aux.ID;
  const image = docker.getImage(`${NAME}-built:1`);
  const inspected = await image.inspect();
  assert.equal(inspected.Id, id);
  assert.equal(inspected.Config.Labels.a, 'b');
  const out = new PassThrough();
  const text = all(out);
  const [data, container] = await docker.run(`${NAME}-built:1`, ['cat', '/f'], [out, out], { Tty: false, Labels: LABELS });
  out.end();
  assert.equal(data.StatusCode, 0);
  assert.equal((await text).toString(), 'base\nme\n');
  await container.remove();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gtk-dockerode-'));
  try {
    fs.writeFileSync(path.join(folder, 'Dockerfile'), 'FROM busybox\nRUN exit 5\n');
    const error = await progress(await docker.buildImage({ context: folder, src: ['Dockerfile'] }, { forcerm: true })).then(() => null, (e) => e);
    assert.match(error.message, /returned a non-zero code: 5/);
    fs.writeFileSync(path.join(folder, 'Dockerfile'), 'FROM busybox\nNONSENSE\n');
    await fails(400, /unknown instruction: NONSENSE/i, docker.buildImage({ context: folder, src: ['Dockerfile'] }, { forcerm: true }));
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
  const saved = await all(await image.get());
  await image.tag({ repo: `${NAME}-built`, tag: 'two' });
  assert.ok((await image.history()).length >= 2);
  assert.ok((await docker.listImages({ filters: { reference: [`${NAME}-built`] } })).some((i) => i.RepoTags.length === 2));
  await image.remove({ force: true });
  await docker.getImage(`${NAME}-built:two`).remove();
  await fails(404, /No such image/, image.inspect());
  const loaded = await progress(await docker.loadImage(Readable.from([saved])));
  assert.ok(loaded.some((l) => (l.stream || '').includes(`Loaded image: ${NAME}-built:1`)), JSON.stringify(loaded));
  assert.equal((await docker.getImage(`${NAME}-built:1`).inspect()).Id, id);
  await docker.getImage(`${NAME}-built:1`).remove();
});

section('push and pull', async () => {
  const name = `${REGISTRY}/${NAME}`;
  await docker.getImage('busybox').tag({ repo: name, tag: 'v1' });
  const pushed = await progress(await docker.getImage(`${name}:v1`).push({ authconfig: { username: '', password: '' } }));
  assert.ok(pushed.some((l) => l.aux && l.aux.Digest), JSON.stringify(pushed));
  const digest = pushed.find((l) => l.aux).aux.Digest;
  await docker.getImage(`${name}:v1`).remove();
  const pulled = await progress(await docker.pull(`${name}:v1`));
  assert.ok(pulled.some((l) => l.status === `Digest: ${digest}`), JSON.stringify(pulled));
  const image = await docker.getImage(`${name}@${digest}`).inspect();
  assert.ok(image.RepoDigests.includes(`${name}@${digest}`));
  const distribution = await docker.getImage(`${name}:v1`).distribution();
  assert.equal(distribution.Descriptor.digest, digest);
  await fails(404, /not found|manifest unknown/, docker.pull(`${name}:no-such`).then(progress));
  await docker.getImage(`${name}:v1`).remove();
});

section('networks', async () => {
  const network = await docker.createNetwork({ Name: `${NAME}-net`, Driver: 'bridge', CheckDuplicate: true, Labels: LABELS, IPAM: { Config: [{ Subnet: `${SUBNET}.0/28` }] } });
  const server = await sleeper({ name: `${NAME}-server`, HostConfig: { NetworkMode: `${NAME}-net` },
    NetworkingConfig: { EndpointsConfig: { [`${NAME}-net`]: { Aliases: ['here'], IPAMConfig: { IPv4Address: `${SUBNET}.9` } } } } });
  await server.start();
  const out = new PassThrough();
  const text = all(out);
  const [data, client] = await docker.run('busybox', ['ping', '-c', '1', 'here'], [out, out], { Tty: false, Labels: LABELS, HostConfig: { NetworkMode: `${NAME}-net` } });
  out.end();
  assert.equal(data.StatusCode, 0, (await text).toString());
  await client.remove();
  const inspected = await network.inspect();
  assert.equal(inspected.Containers[server.id].IPv4Address, `${SUBNET}.9/28`);
  await fails(403, /has active endpoints/, network.remove());
  await network.disconnect({ Container: server.id });
  await network.connect({ Container: server.id, EndpointConfig: { Aliases: ['again'] } });
  assert.ok((await server.inspect()).NetworkSettings.Networks[`${NAME}-net`].Aliases.includes('again'));
  assert.equal((await docker.listNetworks({ filters: MINE })).length, 1);
  await server.remove({ force: true });
  const pruned = await docker.pruneNetworks({ filters: MINE });
  assert.deepEqual(pruned.NetworksDeleted, [`${NAME}-net`]);
  await fails(404, /not found/, network.inspect());
});

section('volumes', async () => {
  const volume = await docker.createVolume({ Name: `${NAME}-vol`, Labels: LABELS });
  const container = await sleeper({ HostConfig: { Mounts: [{ Type: 'volume', Source: `${NAME}-vol`, Target: '/v' }, { Type: 'tmpfs', Target: '/t' }] } });
  await container.start();
  assert.deepEqual((await container.inspect()).Mounts.map((m) => m.Type).sort(), ['tmpfs', 'volume']);
  await fails(409, /volume is in use/, docker.getVolume(`${NAME}-vol`).remove());
  await container.remove({ force: true });
  assert.equal((await docker.getVolume(`${NAME}-vol`).inspect()).Labels.client, NAME);
  assert.equal((await docker.listVolumes({ filters: MINE })).Volumes.length, 1);
  const pruned = await docker.pruneVolumes({ filters: { ...MINE, all: ['true'] } });
  assert.deepEqual(pruned.VolumesDeleted, [`${NAME}-vol`]);
  await fails(404, /no such volume/, docker.getVolume(`${NAME}-vol`).inspect());
});

section('events', async () => {
  const since = Math.floor(Date.now() / 1000) - 1;
  const stream = await docker.getEvents({ filters: { container: [`${NAME}-ev`] }, since });
  const container = await docker.createContainer({ Image: 'busybox', name: `${NAME}-ev`, Cmd: ['true'], Labels: LABELS });
  await container.start();
  await container.wait();
  await container.remove();
  let buffered = '';
  const seen = [];
  for await (const part of stream) {
    buffered += part;
    for (let at; (at = buffered.indexOf('\n')) >= 0; buffered = buffered.slice(at + 1)) {
      if (buffered.slice(0, at).trim()) seen.push(JSON.parse(buffered.slice(0, at)));
    }
    if (seen.some((e) => e.Action === 'destroy')) break;
  }
  stream.destroy();
  assert.deepEqual(seen.map((e) => e.Action).filter((a) => ['create', 'start', 'die', 'destroy'].includes(a)), ['create', 'start', 'die', 'destroy']);
  assert.equal(seen[0].Actor.Attributes.client, NAME);
});

section('health checks and prune', async () => {
  const container = await sleeper({ Healthcheck: { Test: ['CMD-SHELL', 'test -e /ok'], Interval: 50e6, Timeout: 5e9, Retries: 100 } });
  await container.start();
  const health = async () => (await container.inspect()).State.Health.Status;
  assert.equal(await health(), 'starting');
  const exec = await container.exec({ Cmd: ['touch', '/ok'], AttachStdout: true });
  await all(await exec.start({}));
  while ((await health()) !== 'healthy') await new Promise((r) => setTimeout(r, 10));
  await container.stop({ t: 3 });
  const pruned = await docker.pruneContainers({ filters: MINE });
  assert.deepEqual(pruned.ContainersDeleted, [container.id]);
});

section('errors', async () => {
  await fails(404, /No such image: no-such-image:latest/, docker.createContainer({ Image: 'no-such-image' }));
  await fails(400, /Invalid container name/, docker.createContainer({ Image: 'busybox', name: 'a b' }));
  await fails(400, /.*/, docker.createContainer({ Image: 'busybox', HostConfig: { Binds: ['relative:also'] } }));
  await fails(404, /No such image/, docker.getImage('no-such-image').remove());
  await fails(400, /invalid|unsupported/i, docker.listContainers({ filters: { nonsense: ['x'] } }));
  const broken = await docker.createContainer({ Image: 'busybox', Cmd: ['/no/such'], Labels: LABELS });
  await fails(400, /no such file or directory/, broken.start());
  assert.equal((await broken.inspect()).State.ExitCode, 127);
  await broken.remove();
});

(async () => {
  let failed = 0;
  for (const [what, run] of sections) {
    try {
      await run();
      console.log(`ok ${what}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${what}: ${error.stack}`);
    }
  }
  for (const left of await docker.listContainers({ all: true, filters: MINE })) await docker.getContainer(left.Id).remove({ force: true, v: true });
  process.exit(failed ? 1 : 0);
})();
