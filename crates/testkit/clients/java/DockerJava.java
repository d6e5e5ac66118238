// docker-java over its wide surface. Each section is run; the program ends with 1 when one of them failed.
// NAME: what its objects are called after. REGISTRY: host:port of a registry that takes pushes. SUBNET: the first three
// numbers of addresses that it may use.

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.command.BuildImageResultCallback;
import com.github.dockerjava.api.command.CreateContainerCmd;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.command.PullImageResultCallback;
import com.github.dockerjava.api.command.WaitContainerResultCallback;
import com.github.dockerjava.api.exception.DockerException;
import com.github.dockerjava.api.model.*;
import com.github.dockerjava.core.DefaultDockerClientConfig;
import com.github.dockerjava.core.DockerClientImpl;
import com.github.dockerjava.core.InvocationBuilder.AsyncResultCallback;
import com.github.dockerjava.httpclient5.ApacheDockerHttpClient;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.Closeable;
import java.io.IOException;
import java.io.InputStream;
import java.io.PipedInputStream;
import java.io.PipedOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.zip.GZIPOutputStream;
import org.apache.commons.compress.archivers.tar.TarArchiveEntry;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;
import org.apache.commons.compress.archivers.tar.TarArchiveOutputStream;

public class DockerJava {
  static final String NAME = System.getenv("NAME");
  static final String REGISTRY = System.getenv("REGISTRY");
  static final String SUBNET = System.getenv("SUBNET");
  static final Map<String, String> LABELS = Map.of("client", NAME);
  static final List<String> MINE = List.of("client=" + NAME);
  static final String[] SLEEP = {"sh", "-c", "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"};
  static DockerClient docker;

  interface Section { void run() throws Exception; }

  static void equal(Object got, Object wanted) {
    if (!Objects.equals(got, wanted)) throw new AssertionError("got " + got + ", wanted " + wanted);
  }

  static void holds(boolean what, Object shown) {
    if (!what) throw new AssertionError(String.valueOf(shown));
  }

  static void matches(String text, String pattern) {
    holds(Pattern.compile(pattern, Pattern.DOTALL).matcher(text).find(), text + " does not match " + pattern);
  }

  /** An error of the engine is expected, with this status and a text like this. */
  static void fails(int status, String pattern, Section run) throws Exception {
    try {
      run.run();
    } catch (DockerException error) {
      equal(error.getHttpStatus(), status);
      matches(String.valueOf(error.getMessage()), pattern);
      return;
    }
    throw new AssertionError("an error " + status + " is expected");
  }

  /** Collects what a container prints, by stream. */
  static class Output extends ResultCallback.Adapter<Frame> {
    final ByteArrayOutputStream out = new ByteArrayOutputStream();
    final ByteArrayOutputStream err = new ByteArrayOutputStream();

    @Override
    public synchronized void onNext(Frame frame) {
      (frame.getStreamType() == StreamType.STDERR ? err : out).writeBytes(frame.getPayload());
      notifyAll();
    }

    synchronized void until(String text) throws InterruptedException {
      while (!out.toString().contains(text)) wait();
    }

    List<String> all() throws InterruptedException {
      awaitCompletion();
      return List.of(out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
    }
  }

  /** Collects the lines of an operation. */
  static class Lines<T extends ResponseItem> extends ResultCallback.Adapter<T> {
    final List<T> lines = new ArrayList<>();

    @Override
    public void onNext(T line) {
      lines.add(line);
    }

    List<T> all() throws InterruptedException {
      awaitCompletion();
      for (T line : lines) if (line.isErrorIndicated()) throw new IllegalStateException(line.getErrorDetail().getMessage());
      return lines;
    }
  }

  static CreateContainerCmd container(String... command) {
    return docker.createContainerCmd("busybox").withCmd(command).withLabels(LABELS);
  }

  static HostConfig host() {
    return HostConfig.newHostConfig();
  }

  static String created(CreateContainerCmd command) {
    return command.exec().getId();
  }

  static String started(CreateContainerCmd command) {
    String id = created(command);
    docker.startContainerCmd(id).exec();
    return id;
  }

  static InspectContainerResponse inspect(String id) {
    return docker.inspectContainerCmd(id).exec();
  }

  static int ended(String id) {
    return docker.waitContainerCmd(id).exec(new WaitContainerResultCallback()).awaitStatusCode();
  }

  static void gone(String id) {
    docker.removeContainerCmd(id).withForce(true).withRemoveVolumes(true).exec();
  }

  static List<String> logs(String id) throws Exception {
    return docker.logContainerCmd(id).withStdOut(true).withStdErr(true).withFollowStream(true).exec(new Output()).all();
  }

  /** Runs a command in a container: what it printed, and its exit code. */
  static List<String> exec(String id, String... command) throws Exception {
    String exec = docker.execCreateCmd(id).withCmd(command).withAttachStdout(true).withAttachStderr(true).exec().getId();
    List<String> said = new ArrayList<>(docker.execStartCmd(exec).exec(new Output()).all());
    said.add(String.valueOf(docker.inspectExecCmd(exec).exec().getExitCodeLong()));
    return said;
  }

  /** A tar of files by name. */
  static InputStream pack(Map<String, String> files) throws Exception {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (TarArchiveOutputStream tar = new TarArchiveOutputStream(bytes)) {
      for (Map.Entry<String, String> file : files.entrySet()) {
        byte[] data = file.getValue().getBytes(StandardCharsets.UTF_8);
        TarArchiveEntry entry = new TarArchiveEntry(file.getKey());
        entry.setSize(data.length);
        entry.setMode(0100640);
        tar.putArchiveEntry(entry);
        tar.write(data);
        tar.closeArchiveEntry();
      }
    }
    return new ByteArrayInputStream(bytes.toByteArray());
  }

  /** The files of a tar, each as `MODE CONTENT`. */
  static Map<String, String> unpack(InputStream stream) throws Exception {
    Map<String, String> files = new TreeMap<>();
    try (TarArchiveInputStream tar = new TarArchiveInputStream(stream)) {
      for (TarArchiveEntry entry; (entry = tar.getNextEntry()) != null; ) {
        if (!entry.isFile() || entry.getSize() > 4096) continue;
        String content = new String(tar.readAllBytes(), StandardCharsets.UTF_8);
        files.put(entry.getName(), String.format("%o %s", entry.getMode() & 0777, content));
      }
    }
    return files;
  }

  static void system() {
    docker.pingCmd().exec();
    Version version = docker.versionCmd().exec();
    equal(version.getOperatingSystem(), "linux");
    matches(version.getApiVersion(), "^1\\.\\d+$");
    Info info = docker.infoCmd().exec();
    equal(info.getOsType(), "linux");
    holds(info.getNCPU() > 0 && info.getMemTotal() > 0 && info.getId() != null, info);
    holds(info.getContainers() >= 0 && info.getImages() > 0, info);
  }

  static void runWithOutput() throws Exception {
    String id = started(container("sh", "-c", "echo out; echo err >&2; exit 3"));
    equal(ended(id), 3);
    equal(logs(id), List.of("out\n", "err\n"));
    String tail = docker.logContainerCmd(id).withStdOut(true).withTail(2).withTimestamps(true).exec(new Output()).all().get(0);
    matches(tail, "^\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z out\\n$");
    docker.removeContainerCmd(id).exec();
    fails(404, "No such container", () -> inspect(id));
  }

  static void attachWithoutATerminal() throws Exception {
    String id = created(container("sh", "-c", "read a; read b; echo $a$b; echo e >&2").withStdinOpen(true).withStdInOnce(true)
      .withAttachStdin(true).withAttachStdout(true).withAttachStderr(true));
    try (PipedOutputStream keys = new PipedOutputStream(); PipedInputStream input = new PipedInputStream(keys)) {
      Output output = new Output();
      docker.attachContainerCmd(id).withStdIn(input).withStdOut(true).withStdErr(true).withFollowStream(true).exec(output);
      holds(output.awaitStarted(60, TimeUnit.SECONDS), "attach did not begin");
      docker.startContainerCmd(id).exec();
      keys.write("one\ntwo\n".getBytes());
      keys.flush();
      equal(output.all(), List.of("onetwo\n", "e\n"));
    }
    equal(ended(id), 0);
    gone(id);
  }

  static void attachWithATerminal() throws Exception {
    String id = created(container("sh").withTty(true).withStdinOpen(true));
    try (PipedOutputStream keys = new PipedOutputStream(); PipedInputStream input = new PipedInputStream(keys)) {
      Output output = new Output();
      docker.attachContainerCmd(id).withStdIn(input).withStdOut(true).withStdErr(true).withFollowStream(true).exec(output);
      holds(output.awaitStarted(60, TimeUnit.SECONDS), "attach did not begin");
      docker.startContainerCmd(id).exec();
      docker.resizeContainerCmd(id).withSize(33, 101).exec();
      keys.write("stty size\nexit 7\n".getBytes());
      keys.flush();
      matches(output.all().get(0), "33 101\\r\\n");
    }
    equal(ended(id), 7);
    gone(id);
  }

  static void exec() throws Exception {
    String id = started(container(SLEEP));
    String typed = docker.execCreateCmd(id).withCmd("sh", "-c", "read x; echo $x $PWD; echo $A >&2; exit 4").withEnv(List.of("A=b"))
      .withAttachStdin(true).withAttachStdout(true).withAttachStderr(true).withWorkingDir("/tmp").withUser("nobody").exec().getId();
    InputStream input = new ByteArrayInputStream("typed\n".getBytes());
    equal(docker.execStartCmd(typed).withStdIn(input).exec(new Output()).all(), List.of("typed /tmp\n", "b\n"));
    var state = docker.inspectExecCmd(typed).exec();
    equal(state.getExitCodeLong(), 4L);
    equal(state.isRunning(), false);
    equal(state.getContainerID(), id);
    equal(exec(id, "sh", "-c", "echo a; exit 3"), List.of("a\n", "", "3"));
    String tty = docker.execCreateCmd(id).withCmd("tty").withTty(true).withAttachStdout(true).exec().getId();
    matches(docker.execStartCmd(tty).withTty(true).exec(new Output()).all().get(0), "/dev/pts/\\d+\\r\\n");
    String detached = docker.execCreateCmd(id).withCmd("touch", "/made").exec().getId();
    docker.execStartCmd(detached).withDetach(true).exec(new Output()).all();
    while (docker.inspectExecCmd(detached).exec().isRunning()) Thread.sleep(5);
    equal(docker.inspectExecCmd(detached).exec().getExitCodeLong(), 0L);
    var top = docker.topContainerCmd(id).withPsArgs("-ef").exec();
    holds(Arrays.stream(top.getProcesses()).anyMatch((row) -> String.join(" ", row).contains("sleep")), Arrays.deepToString(top.getProcesses()));
    fails(404, "No such exec instance", () -> docker.inspectExecCmd("0".repeat(64)).exec());
    gone(id);
  }

  static void lifeOfAContainer() throws Exception {
    HostConfig limits = host().withMemory(64L << 20).withRestartPolicy(RestartPolicy.noRestart());
    String id = started(container(SLEEP).withName(NAME + "-life").withHostConfig(limits));
    fails(409, "already in use", () -> container("true").withName(NAME + "-life").exec());
    docker.pauseContainerCmd(id).exec();
    equal(inspect(id).getState().getPaused(), true);
    docker.unpauseContainerCmd(id).exec();
    docker.updateContainerCmd(id).withMemory(96L << 20).withMemorySwap(-1L).exec();
    equal(inspect(id).getHostConfig().getMemory(), 96L << 20);
    docker.renameContainerCmd(id).withName(NAME + "-renamed").exec();
    List<Container> listed = docker.listContainersCmd().withLabelFilter(MINE).withStatusFilter(List.of("running"))
      .withNameFilter(List.of(NAME + "-renamed")).exec();
    equal(listed.stream().flatMap((c) -> Arrays.stream(c.getNames())).toList(), List.of("/" + NAME + "-renamed"));
    docker.restartContainerCmd(id).withTimeout(5).exec();
    docker.stopContainerCmd(id).withTimeout(5).exec();
    fails(304, "", () -> docker.stopContainerCmd(id).exec());
    InspectContainerResponse stopped = docker.inspectContainerCmd(id).withSize(true).exec();
    equal(stopped.getState().getStatus(), "exited");
    equal(stopped.getState().getExitCodeLong(), 0L);
    holds(stopped.getSizeRootFs() > 0, stopped.getSizeRootFs());
    docker.startContainerCmd(id).exec();
    fails(304, "", () -> docker.startContainerCmd(id).exec());
    fails(409, "running|force", () -> docker.removeContainerCmd(id).exec());
    WaitContainerResultCallback removed = new WaitContainerResultCallback();
    docker.waitContainerCmd(id).withCondition(WaitContainerCondition.REMOVED).exec(removed);
    holds(removed.awaitStarted(60, TimeUnit.SECONDS), "the wait did not begin");
    docker.killContainerCmd(id).withSignal("SIGKILL").exec();
    equal(ended(id), 137);
    fails(409, "not running", () -> docker.killContainerCmd(id).exec());
    docker.removeContainerCmd(id).exec();
    equal(removed.awaitStatusCode(), 137);
  }

  static void filesUpAndDown() throws Exception {
    String id = created(container(SLEEP));
    Map<String, String> files = Map.of("a.txt", "alpha", "d/b.txt", "beta");
    docker.copyArchiveToContainerCmd(id).withTarInputStream(pack(files)).withRemotePath("/tmp").exec();
    equal(unpack(docker.copyArchiveFromContainerCmd(id, "/tmp/a.txt").exec()), Map.of("a.txt", "640 alpha"));
    Path file = Files.writeString(Path.of(NAME + ".txt"), "from the host");
    docker.copyArchiveToContainerCmd(id).withHostResource(file.toString()).withRemotePath("/tmp").exec();
    Files.delete(file);
    holds(unpack(docker.copyArchiveFromContainerCmd(id, "/tmp").exec()).get("tmp/" + file).endsWith(" from the host"), file);
    List<ChangeLog> changes = docker.containerDiffCmd(id).exec();
    holds(changes.stream().anyMatch((c) -> c.getPath().equals("/tmp/a.txt") && c.getKind() == 1), changes);
    equal(unpack(docker.exportContainerCmd(id).exec()).get("tmp/d/b.txt"), "640 beta");
    fails(404, "Could not find the file", () -> docker.copyArchiveFromContainerCmd(id, "/nowhere").exec());
    fails(404, "Could not find the file",
      () -> docker.copyArchiveToContainerCmd(id).withTarInputStream(pack(files)).withRemotePath("/nowhere").exec());
    String image = docker.commitCmd(id).withRepository(NAME + "-committed").withTag("one").withMessage("by docker-java")
      .withEnv("X=y").withLabels(LABELS).exec();
    var made = docker.inspectImageCmd(image).exec();
    holds(Arrays.asList(made.getConfig().getEnv()).contains("X=y"), Arrays.toString(made.getConfig().getEnv()));
    docker.removeImageCmd(NAME + "-committed:one").exec();
    gone(id);
  }

  static void statistics() throws Exception {
    String id = started(container(SLEEP));
    Statistics once = docker.statsCmd(id).withNoStream(true).exec(new AsyncResultCallback<>()).awaitResult();
    holds(once.getMemoryStats().getUsage() > 0 && once.getPidsStats().getCurrent() > 0, once);
    List<Statistics> seen = new ArrayList<>();
    ResultCallback.Adapter<Statistics> stream = new ResultCallback.Adapter<>() {
      @Override
      public void onNext(Statistics sample) {
        synchronized (seen) {
          seen.add(sample);
          seen.notifyAll();
        }
      }
    };
    docker.statsCmd(id).exec(stream);
    synchronized (seen) {
      while (seen.size() < 2) seen.wait();
    }
    stream.close();
    equal(seen.get(1).getPreCpuStats().getCpuUsage().getTotalUsage(), seen.get(0).getCpuStats().getCpuUsage().getTotalUsage());
    gone(id);
  }

  static void logsThatAreFollowed() throws Exception {
    String id = started(container("sh", "-c", "echo first; read x; echo \"got $x\"").withStdinOpen(true));
    Output output = docker.logContainerCmd(id).withStdOut(true).withStdErr(true).withFollowStream(true).exec(new Output());
    output.until("first\n");
    InputStream input = new ByteArrayInputStream("word\n".getBytes());
    try (Closeable attached = docker.attachContainerCmd(id).withStdIn(input).withFollowStream(true).exec(new Output())) {
      equal(output.all(), List.of("first\ngot word\n", ""));
    }
    gone(id);
  }

  static void ports() throws Exception {
    ExposedPort web = ExposedPort.tcp(80);
    Ports bindings = new Ports(web, Ports.Binding.bindIp("127.0.0.1"));
    String id = started(container("sh", "-c", "mkdir /w; echo page > /w/index.html; echo begun; exec httpd -f -p 80 -h /w")
      .withExposedPorts(web, ExposedPort.udp(53)).withHostConfig(host().withPortBindings(bindings)));
    docker.logContainerCmd(id).withStdOut(true).withFollowStream(true).exec(new Output()).until("begun");
    Ports.Binding[] bound = inspect(id).getNetworkSettings().getPorts().getBindings().get(web);
    equal(bound.length, 1);
    equal(bound[0].getHostIp(), "127.0.0.1");
    HttpRequest request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + bound[0].getHostPortSpec() + "/")).build();
    HttpResponse<String> answer = null;
    while (answer == null) {
      try {
        answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
      } catch (IOException notYet) {
        Thread.sleep(5);
      }
    }
    equal(answer.body(), "page\n");
    gone(id);
  }

  static void build() throws Exception {
    ByteArrayOutputStream context = new ByteArrayOutputStream();
    try (GZIPOutputStream zipped = new GZIPOutputStream(context)) {
      pack(Map.of("Dockerfile", "FROM busybox\nARG WHO\nCOPY f /f\nRUN echo \"$WHO\" >> /f\nLABEL a=b\n", "f", "base\n")).transferTo(zipped);
    }
    String name = NAME + "-built";
    String id = docker.buildImageCmd(new ByteArrayInputStream(context.toByteArray())).withTags(Set.of(name + ":1"))
      .withBuildArg("WHO", "me").withLabels(LABELS).exec(new BuildImageResultCallback()).awaitImageId();
    var image = docker.inspectImageCmd(name + ":1").exec();
    matches(image.getId(), "^sha256:" + id);
    equal(image.getConfig().getLabels(), Map.of("a", "b", "client", NAME));
    String run = started(docker.createContainerCmd(name + ":1").withCmd("cat", "/f").withLabels(LABELS));
    equal(logs(run), List.of("base\nme\n", ""));
    gone(run);
    Path folder = Files.createTempDirectory("gtk-docker-java-");
    Path file = folder.resolve("Dockerfile");
    try {
      Files.writeString(file, "FROM busybox AS first\nRUN echo one > /f\nFROM first\nRUN echo two >> /f\n");
      Files.writeString(folder.resolve(".dockerignore"), "ignored\n");
      Files.writeString(folder.resolve("ignored"), "x");
      String first = docker.buildImageCmd(folder.toFile()).withTarget("first").withNoCache(true).exec(new BuildImageResultCallback()).awaitImageId();
      run = started(docker.createContainerCmd(first).withCmd("cat", "/f").withLabels(LABELS));
      equal(logs(run), List.of("one\n", ""));
      gone(run);
      docker.removeImageCmd(first).exec();
      Files.writeString(file, "FROM busybox\nRUN exit 5\n");
      try {
        docker.buildImageCmd(file.toFile()).withForcerm(true).exec(new BuildImageResultCallback()).awaitImageId();
        throw new AssertionError("the build should fail");
      } catch (RuntimeException error) {
        matches(error.getMessage(), "returned a non-zero code: 5");
      }
      Files.writeString(file, "FROM busybox\nNONSENSE\n");
      fails(400, "(?i)unknown instruction: NONSENSE", () -> docker.buildImageCmd(file.toFile()).exec(new BuildImageResultCallback()).awaitImageId());
    } finally {
      for (Path path : List.of(file, folder.resolve(".dockerignore"), folder.resolve("ignored"), folder)) Files.deleteIfExists(path);
    }
    byte[] saved = docker.saveImageCmd(name + ":1").exec().readAllBytes();
    docker.tagImageCmd(name + ":1", name, "two").exec();
    holds(docker.imageHistoryCmd(name + ":1").exec().size() >= 2, "history");
    List<Image> listed = docker.listImagesCmd().withReferenceFilter(name).exec();
    equal(listed.stream().map((i) -> i.getRepoTags().length).toList(), List.of(2));
    docker.removeImageCmd(name + ":1").withForce(true).exec();
    docker.removeImageCmd(name + ":two").exec();
    fails(404, "No such image", () -> docker.inspectImageCmd(name + ":1").exec());
    List<LoadResponseItem> loaded = docker.loadImageAsyncCmd(new ByteArrayInputStream(saved)).exec(new Lines<LoadResponseItem>()).all();
    holds(loaded.stream().anyMatch((l) -> String.valueOf(l.getStream()).contains("Loaded image: " + name + ":1")), loaded);
    equal(docker.inspectImageCmd(name + ":1").exec().getId(), image.getId());
    docker.removeImageCmd(name + ":1").exec();
  }

  static void pushAndPull() throws Exception {
    String name = REGISTRY + "/" + NAME;
    docker.tagImageCmd("busybox", name, "v1").exec();
    List<PushResponseItem> pushed = docker.pushImageCmd(name).withTag("v1").withAuthConfig(new AuthConfig().withUsername("a").withPassword("b"))
      .exec(new Lines<PushResponseItem>()).all();
    String digest = pushed.stream().filter((l) -> l.getAux() != null).map((l) -> l.getAux().getDigest()).findFirst().orElseThrow();
    docker.removeImageCmd(name + ":v1").exec();
    List<PullResponseItem> pulled = docker.pullImageCmd(name).withTag("v1").exec(new Lines<PullResponseItem>()).all();
    holds(pulled.stream().anyMatch((l) -> ("Digest: " + digest).equals(l.getStatus())), pulled);
    holds(pulled.get(pulled.size() - 1).isPullSuccessIndicated(), pulled);
    holds(docker.inspectImageCmd(name + "@" + digest).exec().getRepoDigests().contains(name + "@" + digest), digest);
    fails(404, "not found|manifest unknown", () -> docker.pullImageCmd(name).withTag("no-such").exec(new PullImageResultCallback()).awaitCompletion());
    docker.removeImageCmd(name + ":v1").exec();
  }

  static void networks() throws Exception {
    String name = NAME + "-net";
    var ipam = new Network.Ipam().withConfig(new Network.Ipam.Config().withSubnet(SUBNET + ".0/28"));
    String network = docker.createNetworkCmd().withName(name).withDriver("bridge").withCheckDuplicate(true).withLabels(LABELS).withIpam(ipam).exec().getId();
    String server = started(container(SLEEP).withName(NAME + "-server").withHostConfig(host().withNetworkMode(name)).withAliases("here").withIpv4Address(SUBNET + ".9"));
    String client = started(container("ping", "-c", "1", "here").withHostConfig(host().withNetworkMode(name)));
    equal(ended(client), 0);
    gone(client);
    Network inspected = docker.inspectNetworkCmd().withNetworkId(network).exec();
    equal(inspected.getContainers().get(server).getIpv4Address(), SUBNET + ".9/28");
    equal(inspected.getLabels(), LABELS);
    fails(403, "has active endpoints", () -> docker.removeNetworkCmd(network).exec());
    docker.disconnectFromNetworkCmd().withNetworkId(network).withContainerId(server).exec();
    docker.connectToNetworkCmd().withNetworkId(network).withContainerId(server).withContainerNetwork(new ContainerNetwork().withAliases("again")).exec();
    holds(inspect(server).getNetworkSettings().getNetworks().get(name).getAliases().contains("again"), "alias");
    equal(docker.listNetworksCmd().withFilter("label", MINE).exec().size(), 1);
    gone(server);
    docker.pruneCmd(PruneType.NETWORKS).withLabelFilter("client=" + NAME).exec();
    fails(404, "not found", () -> docker.inspectNetworkCmd().withNetworkId(network).exec());
  }

  static void volumes() throws Exception {
    String name = NAME + "-vol";
    docker.createVolumeCmd().withName(name).withLabels(LABELS).exec();
    Mount volume = new Mount().withType(MountType.VOLUME).withSource(name).withTarget("/v");
    Mount memory = new Mount().withType(MountType.TMPFS).withTarget("/t");
    String id = started(container("sh", "-c", "echo kept > /v/f; " + SLEEP[2]).withHostConfig(host().withMounts(List.of(volume, memory))));
    equal(inspect(id).getMounts().stream().map((m) -> m.getDestination().getPath()).collect(Collectors.toSet()), Set.of("/v", "/t"));
    fails(409, "volume is in use", () -> docker.removeVolumeCmd(name).exec());
    String other = started(container("sh", "-c", "until cat /w/f; do :; done; touch /w/g").withHostConfig(host().withBinds(new Bind(name, new Volume("/w"), AccessMode.ro))));
    holds(ended(other) != 0, "a volume that is read-only was written to");
    equal(logs(other).get(0), "kept\n");
    gone(other);
    gone(id);
    equal(docker.inspectVolumeCmd(name).exec().getLabels(), LABELS);
    equal(docker.listVolumesCmd().withFilter("label", MINE).exec().getVolumes().size(), 1);
    docker.removeVolumeCmd(name).exec();
    fails(404, "no such volume", () -> docker.inspectVolumeCmd(name).exec());
  }

  static void events() throws Exception {
    List<String> seen = new ArrayList<>();
    ResultCallback.Adapter<Event> stream = new ResultCallback.Adapter<>() {
      @Override
      public void onNext(Event event) {
        synchronized (seen) {
          seen.add(event.getAction() + " " + event.getActor().getAttributes().get("client"));
          seen.notifyAll();
        }
      }
    };
    docker.eventsCmd().withContainerFilter(NAME + "-ev").withEventTypeFilter(EventType.CONTAINER)
      .withSince(String.valueOf(Instant.now().getEpochSecond() - 1)).exec(stream);
    String id = started(container("true").withName(NAME + "-ev"));
    ended(id);
    docker.removeContainerCmd(id).exec();
    synchronized (seen) {
      while (!seen.contains("destroy " + NAME)) seen.wait();
      equal(seen, List.of("create " + NAME, "start " + NAME, "die " + NAME, "destroy " + NAME));
    }
    stream.close();
  }

  static void healthChecksAndPrune() throws Exception {
    HealthCheck check = new HealthCheck().withTest(List.of("CMD-SHELL", "test -e /ok")).withInterval(50_000_000L)
      .withTimeout(5_000_000_000L).withRetries(100);
    String id = started(container(SLEEP).withHealthcheck(check));
    equal(inspect(id).getState().getHealth().getStatus(), "starting");
    exec(id, "touch", "/ok");
    while (!inspect(id).getState().getHealth().getStatus().equals("healthy")) Thread.sleep(10);
    docker.stopContainerCmd(id).withTimeout(3).exec();
    docker.pruneCmd(PruneType.CONTAINERS).withLabelFilter("client=" + NAME).exec();
    fails(404, "No such container", () -> inspect(id));
  }

  static void errors() throws Exception {
    fails(404, "No such image: no-such-image:latest", () -> docker.createContainerCmd("no-such-image").exec());
    fails(400, "Invalid container name", () -> container("true").withName("a b").exec());
    fails(404, "No such image", () -> docker.removeImageCmd("no-such-image").exec());
    fails(400, "(?i)invalid", () -> docker.listContainersCmd().withFilter("nonsense", List.of("x")).exec());
    String broken = created(container("/no/such"));
    fails(400, "no such file or directory", () -> docker.startContainerCmd(broken).exec());
    equal(inspect(broken).getState().getExitCodeLong(), 127L);
    gone(broken);
  }

  public static void main(String[] args) throws Exception {
    var config = DefaultDockerClientConfig.createDefaultConfigBuilder().build();
    var transport = new ApacheDockerHttpClient.Builder().dockerHost(config.getDockerHost()).build();
    docker = DockerClientImpl.getInstance(config, transport);
    Map<String, Section> sections = new LinkedHashMap<>();
    sections.put("system", DockerJava::system);
    sections.put("run with output", DockerJava::runWithOutput);
    sections.put("attach without a terminal", DockerJava::attachWithoutATerminal);
    sections.put("attach with a terminal", DockerJava::attachWithATerminal);
    sections.put("exec", () -> exec());
    sections.put("life of a container", DockerJava::lifeOfAContainer);
    sections.put("files up and down", DockerJava::filesUpAndDown);
    sections.put("statistics", DockerJava::statistics);
    sections.put("logs that are followed", DockerJava::logsThatAreFollowed);
    sections.put("ports", DockerJava::ports);
    sections.put("build", DockerJava::build);
    sections.put("push and pull", DockerJava::pushAndPull);
    sections.put("networks", DockerJava::networks);
    sections.put("volumes", DockerJava::volumes);
    sections.put("events", DockerJava::events);
    sections.put("health checks and prune", DockerJava::healthChecksAndPrune);
    sections.put("errors", DockerJava::errors);
    int failed = 0;
    for (var section : sections.entrySet()) {
      try {
        section.getValue().run();
        System.out.println("ok " + section.getKey());
      } catch (Throwable error) {
        failed++;
        System.out.print("FAILED " + section.getKey() + ": ");
        error.printStackTrace(System.out);
      }
    }
    for (Container left : docker.listContainersCmd().withShowAll(true).withLabelFilter(MINE).exec()) gone(left.getId());
    System.exit(failed == 0 ? 0 : 1);
  }
}
