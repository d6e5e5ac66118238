// testcontainers for Node: what its guide shows. NAME: what its objects are called after.
// COMPOSE: whether the compose plugin is to be found.
const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { DockerComposeEnvironment, GenericContainer, Network, PullPolicy, Wait, getContainerRuntimeClient } = require('testcontainers');

const { NAME, REGISTRY } = process.env;
const SERVE = ['sh', '-c', 'mkdir /w; echo page > /w/index.html; echo begun; exec httpd -f -p 80 -h /w'];
const SLEEP = ['sh', '-c', "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"];
const sections = [];
const section = (what, run) => sections.push([what, run]);
const serving = () => new GenericContainer('busybox').withCommand(SERVE).withExposedPorts(80);

async function page(container, port = 80) {
  const answer = await fetch(`http://${container.getHost()}:${container.getMappedPort(port)}/`);
  return answer.text();
}

section('waits', async () => {
  for (const wait of [
    Wait.forLogMessage('begun'),
    Wait.forLogMessage(/beg.n/, 1),
    Wait.forListeningPorts(),
    Wait.forHttp('/', 80).forStatusCode(200).forResponsePredicate((body) => body === 'page\n'),
    Wait.forSuccessfulCommand('test -e /w/index.html'),
    Wait.forAll([Wait.forLogMessage('begun'), Wait.forListeningPorts()]),
  ]) {
    const container = await serving().withWaitStrategy(wait).start();
    await container.stop({ timeout: 0 });
  }
  const container = await serving()
    .withHealthCheck({ test: ['CMD-SHELL', 'wget -qO- http://127.0.0.1/'], interval: 100, timeout: 5000, retries: 100 })
    .withWaitStrategy(Wait.forHealthCheck()).start();
  assert.equal(await page(container), 'page\n');
  await container.stop({ timeout: 0 });
  const once = await new GenericContainer('busybox').withCommand(['true']).withWaitStrategy(Wait.forOneShotStartup()).start();
  await once.stop();
  await assert.rejects(serving().withWaitStrategy(Wait.forLogMessage('never')).withStartupTimeout(300).start(), /never/);
});

section('exec, logs, files', async () => {
  const container = await new GenericContainer('busybox').withCommand(SLEEP).withEnvironment({ A: 'b' }).withUser('0:0')
    .withLabels({ client: NAME }).withTmpFs({ '/t': 'rw' }).withWorkingDir('/tmp')
    .withCopyContentToContainer([{ content: 'content', target: '/in/a' }])
    .withCopyFilesToContainer([{ source: __filename, target: '/in/self', mode: 0o444 }]).start();
  const { output, stdout, stderr, exitCode } = await container.exec(['sh', '-c', 'echo $A; echo $C $PWD >&2; exit 3'], { env: { C: 'd' }, workingDir: '/in' });
  assert.deepEqual([stdout, stderr, exitCode, output.includes('b\n')], ['b\n', 'd /in\n', 3, true]);
  assert.equal((await container.exec(['cat', '/in/a'])).output, 'content');
  assert.equal((await container.exec(['stat', '-c', '%a %s', '/in/self'])).output, `444 ${fs.statSync(__filename).size}\n`);
  const archive = await container.copyArchiveFromContainer('/in/a');
  let size = 0;
  for await (const part of archive) size += part.length;
  assert.ok(size >= 1024 && size % 512 === 0, String(size));
  await container.copyContentToContainer([{ content: 'late', target: '/late' }]);
  assert.equal((await container.exec(['cat', '/late'])).output, 'late');
  await container.restart({ timeout: 1 });
  assert.equal((await container.exec(['cat', '/late'])).output, 'late');
  const image = await container.commit({ repo: `${NAME}-tc`, tag: 'one', deleteOnExit: false });
  assert.match(image, /[0-9a-f]{64}/);
  await container.stop({ timeout: 0, remove: true });
  const client = await getContainerRuntimeClient();
  await client.container.dockerode.getImage(`${NAME}-tc:one`).remove();
  const talking = await new GenericContainer('busybox').withCommand(['sh', '-c', 'echo one; echo two >&2; sleep 600'])
    .withLogConsumer(() => {}).withWaitStrategy(Wait.forLogMessage('two')).start();
  const lines = [];
  for await (const line of await talking.logs()) { lines.push(String(line).trim()); if (lines.join(' ').includes('two')) break; }
  assert.ok(lines.join(' ').includes('one'), lines.join('|'));
  await talking.stop({ timeout: 0 });
});

section('networks', async () => {
  const network = await new Network().start();
  const server = await serving().withNetwork(network).withNetworkAliases('alpha').withWaitStrategy(Wait.forListeningPorts()).start();
  const client = await new GenericContainer('busybox').withCommand(SLEEP).withNetwork(network).withExtraHosts([{ host: 'beta', ipAddress: '127.0.0.9' }]).start();
  assert.equal((await client.exec(['wget', '-qO-', 'http://alpha/'])).output, 'page\n');
  assert.match((await client.exec(['cat', '/etc/hosts'])).output, /127\.0\.0\.9\s+beta/);
  assert.match(server.getIpAddress(network.getName()), /^\d+\.\d+\.\d+\.\d+$/);
  await server.stop({ timeout: 0 });
  await client.stop({ timeout: 0 });
  await network.stop();
});

section('images', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gtk-testcontainers-'));
  try {
    fs.writeFileSync(path.join(folder, 'Dockerfile'), 'FROM busybox AS first\nARG WHO\nRUN echo "built by $WHO" > /f\nFROM first AS second\nCMD ["cat", "/f"]\n');
    const image = await GenericContainer.fromDockerfile(folder).withBuildArgs({ WHO: 'me' }).withTarget('second').withCache(true)
      .build(`${NAME}-built:1`, { deleteOnExit: false });
    const container = await image.withWaitStrategy(Wait.forLogMessage('built by me')).start();
    await container.stop();
    const { dockerode } = (await getContainerRuntimeClient()).container;
    await dockerode.getImage(`${NAME}-built:1`).tag({ repo: `${REGISTRY}/${NAME}-tc`, tag: '1' });
    const push = await dockerode.getImage(`${REGISTRY}/${NAME}-tc:1`).push({ authconfig: { username: 'a', password: 'b' } });
    for await (const part of push) assert.ok(!String(part).includes('"error"'), String(part));
    await dockerode.getImage(`${REGISTRY}/${NAME}-tc:1`).remove();
    const pulled = await new GenericContainer(`${REGISTRY}/${NAME}-tc:1`).withPullPolicy(PullPolicy.alwaysPull())
      .withWaitStrategy(Wait.forLogMessage('built by me')).start();
    await pulled.stop();
    await dockerode.getImage(`${REGISTRY}/${NAME}-tc:1`).remove();
    await dockerode.getImage(`${NAME}-built:1`).remove();
    await assert.rejects(new GenericContainer(`${REGISTRY}/${NAME}-none:1`).start(), /not found|manifest unknown/i);
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

section('reuse', async () => {
  const make = () => serving().withLabels({ client: NAME }).withReuse().withWaitStrategy(Wait.forListeningPorts()).start();
  const first = await make();
  const second = await make();
  assert.equal(second.getId(), first.getId());
  await second.stop({ timeout: 0 });
});

section('compose', async () => {
  if (!process.env.COMPOSE) return;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gtk-testcontainers-'));
  try {
    fs.writeFileSync(path.join(folder, 'compose.yaml'), `
services:
  web:
    image: busybox
    command: sh -c "mkdir /w; echo $\${WHAT} > /w/index.html; echo begun; exec httpd -f -p 80 -h /w"
    environment: { WHAT: "\${WHAT}" }
    ports: ["80"]
    stop_grace_period: 0s
  other:
    image: busybox
    command: sh -c "echo other; exec sleep 600"
    stop_grace_period: 0s
    depends_on: [web]
`);
    const up = await new DockerComposeEnvironment(folder, 'compose.yaml').withProjectName(`${NAME}`.replaceAll('_', '-')).withEnvironment({ WHAT: 'composed' })
      .withWaitStrategy('web-1', Wait.forLogMessage('begun')).withWaitStrategy('other-1', Wait.forLogMessage('other')).up();
    assert.equal(await page(up.getContainer('web-1')), 'composed\n');
    assert.equal((await up.getContainer('other-1').exec(['wget', '-qO-', 'http://web/'])).output, 'composed\n');
    await up.down({ timeout: 0 });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});

// Streams of logs do not keep the program alive.
setInterval(() => {}, 1000);

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
  process.exit(failed ? 1 : 0);
})();
