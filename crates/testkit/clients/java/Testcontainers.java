// testcontainers for Java: what its guide shows; it is run with version 2 and with the last of version 1.
// NAME: what its objects are called after. REGISTRY: host:port of a registry that takes pushes. COMPOSE: whether the
// compose plugin is to be found.

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.async.ResultCallback;
import com.github.dockerjava.api.model.AuthConfig;
import com.github.dockerjava.api.model.Capability;
import com.github.dockerjava.api.model.ExposedPort;
import com.github.dockerjava.api.model.PushResponseItem;
import java.io.File;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.BindMode;
import org.testcontainers.containers.ComposeContainer;
import org.testcontainers.containers.Container;
import org.testcontainers.containers.ContainerLaunchException;
import org.testcontainers.containers.ContainerState;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.Network;
import org.testcontainers.containers.output.OutputFrame;
import org.testcontainers.containers.output.ToStringConsumer;
import org.testcontainers.containers.output.WaitingConsumer;
import org.testcontainers.containers.startupcheck.IndefiniteWaitOneShotStartupCheckStrategy;
import org.testcontainers.containers.startupcheck.OneShotStartupCheckStrategy;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.containers.wait.strategy.WaitAllStrategy;
import org.testcontainers.containers.wait.strategy.WaitStrategy;
import org.testcontainers.images.PullPolicy;
import org.testcontainers.images.builder.ImageFromDockerfile;
import org.testcontainers.images.builder.Transferable;
import org.testcontainers.lifecycle.Startables;
import org.testcontainers.utility.DockerImageName;
import org.testcontainers.utility.MountableFile;

public class Testcontainers {
  static final String NAME = System.getenv("NAME");
  static final String REGISTRY = System.getenv("REGISTRY");
  static final DockerImageName BUSYBOX = DockerImageName.parse("busybox:latest");
  static final String[] SERVE = {"sh", "-c", "mkdir -p /w; echo page > /w/index.html; echo begun; exec httpd -f -p 80 -h /w"};
  static final String[] SLEEP = {"sh", "-c", "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"};

  interface Section { void run() throws Exception; }

  static void equal(Object got, Object wanted) {
    if (!Objects.equals(got, wanted)) throw new AssertionError("got " + got + ", wanted " + wanted);
  }

  static void matches(String text, String pattern) {
    if (!Pattern.compile(pattern, Pattern.DOTALL).matcher(text).find()) throw new AssertionError(text + " does not match " + pattern);
  }

  static GenericContainer<?> serving() {
    return new GenericContainer<>(BUSYBOX).withCommand(SERVE).withExposedPorts(80);
  }

  static GenericContainer<?> sleeping() {
    return new GenericContainer<>(BUSYBOX).withCommand(SLEEP);
  }

  static String get(String host, int port) throws Exception {
    URI address = URI.create("http://" + host + ":" + port + "/");
    return HttpClient.newHttpClient().send(HttpRequest.newBuilder(address).build(), HttpResponse.BodyHandlers.ofString()).body();
  }

  /** What an error says, with its causes. */
  static String whole(Throwable error) {
    StringBuilder text = new StringBuilder();
    for (Throwable cause = error; cause != null; cause = cause.getCause()) text.append(cause.getMessage()).append('\n');
    return text.toString();
  }

  static String said(Container.ExecResult result) {
    return result.getExitCode() + "|" + result.getStdout() + "|" + result.getStderr();
  }

  static void waits() throws Exception {
    for (WaitStrategy wait : List.of(
      Wait.defaultWaitStrategy(),
      Wait.forLogMessage("beg.n\\n", 1),
      Wait.forListeningPort(),
      Wait.forListeningPorts(80),
      Wait.forHttp("/").forPort(80).forStatusCode(200).forResponsePredicate("page"::equals),
      Wait.forHttp("/nowhere").forStatusCodeMatching((code) -> code == 404),
      Wait.forSuccessfulCommand("test -e /w/index.html"),
      new WaitAllStrategy().withStrategy(Wait.forLogMessage(".*begun.*", 1)).withStrategy(Wait.forListeningPort()))) {
      try (GenericContainer<?> container = serving().waitingFor(wait)) {
        container.start();
        equal(get(container.getHost(), container.getMappedPort(80)), "page\n");
      }
    }
    String check = "HEALTHCHECK --interval=100ms --timeout=5s --retries=100 CMD test -e /healthy";
    ImageFromDockerfile image = new ImageFromDockerfile().withFileFromString("Dockerfile", "FROM busybox\n" + check + "\nCMD sleep 0.2; touch /healthy; exec sleep 600\n");
    try (GenericContainer<?> container = new GenericContainer<>(image).waitingFor(Wait.forHealthcheck())) {
      container.start();
      equal(container.isHealthy(), true);
    }
    try (GenericContainer<?> never = serving().waitingFor(Wait.forLogMessage("never", 1).withStartupTimeout(Duration.ofMillis(300)))) {
      never.start();
      throw new AssertionError("it should not have started");
    } catch (ContainerLaunchException expected) {
      matches(whole(expected), "Timed out waiting for log output matching 'never'");
    }
  }

  static void oneShots() throws Exception {
    try (GenericContainer<?> once = new GenericContainer<>(BUSYBOX).withCommand("sh", "-c", "echo done")
      .withStartupCheckStrategy(new OneShotStartupCheckStrategy().withTimeout(Duration.ofSeconds(60)))) {
      once.start();
      equal(once.getLogs(), "done\n");
      equal(once.isRunning(), false);
    }
    try (GenericContainer<?> long_ = new GenericContainer<>(BUSYBOX).withCommand("true").withStartupCheckStrategy(new IndefiniteWaitOneShotStartupCheckStrategy())) {
      long_.start();
    }
    AtomicInteger attempts = new AtomicInteger();
    try (GenericContainer<?> failing = new GenericContainer<>(BUSYBOX).withCommand("sh", "-c", "exit 3").withStartupAttempts(2)
      .withCreateContainerCmdModifier((c) -> attempts.incrementAndGet()).withStartupCheckStrategy(new OneShotStartupCheckStrategy())) {
      failing.start();
      throw new AssertionError("it should not have started");
    } catch (ContainerLaunchException expected) {
      equal(attempts.get(), 2);
    }
  }

  static void execLogsFiles() throws Exception {
    Path file = Files.writeString(Path.of(NAME + ".txt"), "from the host");
    Path folder = Files.createDirectories(Path.of(NAME + "-folder/deep"));
    Path leaf = Files.writeString(folder.resolve("leaf"), "leaf");
    ToStringConsumer consumed = new ToStringConsumer();
    WaitingConsumer waiting = new WaitingConsumer();
    String[] talk = {"sh", "-c", "echo one; echo two >&2; " + SLEEP[2]};
    try (GenericContainer<?> container = sleeping().withCommand(talk).withEnv("A", "b").withLabel("client", NAME).withWorkingDirectory("/tmp")
      .withTmpFs(Map.of("/t", "rw,size=1m")).withSharedMemorySize(8L << 20).withPrivilegedMode(false).withExtraHost("beta", "127.0.0.9")
      .withCopyToContainer(Transferable.of("content", 0640), "/in/a")
      .withCopyFileToContainer(MountableFile.forHostPath(file, 0444), "/in/b")
      .withCopyFileToContainer(MountableFile.forHostPath(folder.getParent()), "/in/tree")
      .withFileSystemBind(file.toAbsolutePath().toString(), "/bound", BindMode.READ_ONLY)
      .withCreateContainerCmdModifier((c) -> c.withHostName("named").getHostConfig().withMemory(96L << 20).withCapDrop(Capability.NET_RAW))
      .withLogConsumer(consumed.andThen(waiting)).waitingFor(Wait.forLogMessage("two\\n", 1))) {
      container.start();
      waiting.waitUntil((frame) -> frame.getUtf8String().contains("two"));
      matches(consumed.toUtf8String(), "one");
      equal(container.getLogs(OutputFrame.OutputType.STDERR), "two\n");
      equal(container.getLogs(OutputFrame.OutputType.STDOUT), "one\n");
      equal(said(container.execInContainer("sh", "-c", "echo $A $PWD $(hostname); echo x >&2; exit 3")), "3|b /tmp named\n|x\n");
      equal(said(container.execInContainerWithUser("nobody", "id", "-u")), "0|65534\n|");
      equal(said(container.execInContainer("cat", "/in/a", "/in/b", "/in/tree/deep/leaf", "/bound")), "0|contentfrom the hostleaffrom the host|");
      equal(said(container.execInContainer("stat", "-c", "%a", "/in/a", "/in/b")), "0|640\n444\n|");
      matches(said(container.execInContainer("cat", "/etc/hosts", "/proc/mounts")), "127\\.0\\.0\\.9\\s+beta.* /t tmpfs rw.*size=1024k");
      container.copyFileToContainer(Transferable.of("late".getBytes(StandardCharsets.UTF_8)), "/late");
      equal(container.copyFileFromContainer("/late", (stream) -> new String(stream.readAllBytes())), "late");
      container.copyFileFromContainer("/in/b", NAME + ".back");
      equal(Files.readString(Path.of(NAME + ".back")), "from the host");
      equal(container.getContainerInfo().getConfig().getLabels().get("client"), NAME);
      equal(container.getContainerInfo().getHostConfig().getMemory(), 96L << 20);
      equal(container.getCurrentContainerInfo().getState().getRunning(), true);
      equal(container.isCreated() && container.isRunning(), true);
    } finally {
      for (Path path : List.of(file, leaf, folder, folder.getParent(), Path.of(NAME + ".back"))) Files.deleteIfExists(path);
    }
  }

  static void networks() throws Exception {
    try (Network network = Network.newNetwork();
      GenericContainer<?> server = serving().withNetwork(network).withNetworkAliases("alpha", "also");
      GenericContainer<?> client = sleeping().withNetwork(network).dependsOn(server)) {
      Startables.deepStart(client).join();
      for (String name : List.of("alpha", "also")) equal(said(client.execInContainer("wget", "-qO-", "http://" + name + "/")), "0|page\n|");
      equal(server.getContainerInfo().getNetworkSettings().getNetworks().size(), 1);
    }
    try (GenericContainer<?> first = serving(); GenericContainer<?> second = sleeping().withNetworkMode("container:" + started(first).getContainerId())) {
      second.start();
      equal(said(second.execInContainer("wget", "-qO-", "http://127.0.0.1/")), "0|page\n|");
    }
  }

  static GenericContainer<?> started(GenericContainer<?> container) {
    container.start();
    return container;
  }

  static void images() throws Exception {
    String dockerfile = "FROM busybox AS first\nARG WHO\nCOPY f /f\nRUN echo \"built by $WHO\" >> /f\nFROM first AS second\nCMD [\"cat\", \"/f\"]\nFROM busybox\nRUN exit 9\n";
    ImageFromDockerfile image = new ImageFromDockerfile(NAME + "-built:1", false).withFileFromString("Dockerfile", dockerfile)
      .withFileFromString("f", "base\n").withBuildArg("WHO", "me").withTarget("second");
    try (GenericContainer<?> container = new GenericContainer<>(image).withStartupCheckStrategy(new OneShotStartupCheckStrategy())) {
      container.start();
      equal(container.getLogs(), "base\nbuilt by me\n");
    }
    try (GenericContainer<?> container = new GenericContainer<>(new ImageFromDockerfile().withDockerfileFromBuilder((builder) ->
      builder.from("busybox").env("A", "b").label("l", "m").run("echo made > /made").cmd("sh", "-c", "cat /made; echo $A").build()))
      .withStartupCheckStrategy(new OneShotStartupCheckStrategy())) {
      container.start();
      equal(container.getLogs(), "made\nb\n");
    }
    DockerClient docker = DockerClientFactory.instance().client();
    String name = REGISTRY + "/" + NAME + "-tc";
    docker.tagImageCmd(NAME + "-built:1", name, "1").exec();
    docker.pushImageCmd(name).withTag("1").withAuthConfig(new AuthConfig().withUsername("a").withPassword("b"))
      .exec(new ResultCallback.Adapter<PushResponseItem>()).awaitCompletion();
    docker.removeImageCmd(name + ":1").exec();
    try (GenericContainer<?> pulled = new GenericContainer<>(name + ":1").withImagePullPolicy(PullPolicy.alwaysPull())
      .withStartupCheckStrategy(new OneShotStartupCheckStrategy())) {
      pulled.start();
      equal(pulled.getLogs(), "base\nbuilt by me\n");
    }
    docker.removeImageCmd(name + ":1").exec();
    docker.removeImageCmd(NAME + "-built:1").exec();
    try (GenericContainer<?> missing = new GenericContainer<>(REGISTRY + "/" + NAME + "-none:1")) {
      missing.start();
      throw new AssertionError("there is no such image");
    } catch (RuntimeException expected) {
      matches(whole(expected), "(?i)not found|manifest unknown");
    }
  }

  static void compose() throws Exception {
    if (System.getenv("COMPOSE") == null) return;
    File file = Files.writeString(Path.of(NAME + "-compose.yaml"), """
      services:
        web:
          image: busybox
          command: sh -c "mkdir /w; echo $${WHAT} > /w/index.html; echo begun; exec httpd -f -p 80 -h /w"
          environment: { WHAT: "${WHAT}" }
          ports: ["80"]
          stop_grace_period: 0s
        other:
          image: busybox
          command: sh -c "echo other; exec sleep 600"
          stop_grace_period: 0s
          depends_on: [web]
      """).toAbsolutePath().toFile();
    // A project's name takes lower case only.
    ComposeContainer project = new ComposeContainer(NAME.toLowerCase().replace('_', '-'), file).withEnv("WHAT", "composed").withPull(false)
      .waitingFor("web-1", Wait.forLogMessage(".*begun.*", 1)).waitingFor("other-1", Wait.forLogMessage(".*other.*", 1));
    try {
      // Version 1 runs compose in a container unless it is told to use what is there.
      ComposeContainer.class.getMethod("withLocalCompose", boolean.class).invoke(project, true);
    } catch (NoSuchMethodException version2) {
      // It always uses what is there.
    }
    try {
      project.start();
      ContainerState other = project.getContainerByServiceName("other-1").orElseThrow();
      equal(said(other.execInContainer("wget", "-qO-", "http://web/")), "0|composed\n|");
      ContainerState web = project.getContainerByServiceName("web-1").orElseThrow();
      // The port itself: withExposedService would go through an image that forwards.
      var bound = web.getContainerInfo().getNetworkSettings().getPorts().getBindings().get(ExposedPort.tcp(80));
      equal(get("127.0.0.1", Integer.parseInt(bound[0].getHostPortSpec())), "composed\n");
    } finally {
      project.stop();
      Files.delete(file.toPath());
    }
  }

  public static void main(String[] args) {
    Map<String, Section> sections = new LinkedHashMap<>();
    sections.put("waits", Testcontainers::waits);
    sections.put("one shots", Testcontainers::oneShots);
    sections.put("exec, logs, files", Testcontainers::execLogsFiles);
    sections.put("networks", Testcontainers::networks);
    sections.put("images", Testcontainers::images);
    sections.put("compose", Testcontainers::compose);
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
    System.exit(failed == 0 ? 0 : 1);
  }
}
