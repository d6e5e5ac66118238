// testcontainers for Go: what its guide shows, over moby's new client. NAME: what its objects are called after.
// REGISTRY: host:port of a registry that takes pushes. SUITE: how many short tests to run instead, for benchmarks.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	tc "github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	serve = "mkdir /w; echo page >/w/index.html; echo begun; exec httpd -f -p 80 -h /w"
	sleep = "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"
)

var (
	name     = os.Getenv("NAME")
	registry = os.Getenv("REGISTRY")
	ctx      = context.Background()
)

// failure is thrown by the checks and caught around each section.
type failure string

func check(ok bool, format string, args ...any) {
	if !ok {
		panic(failure(fmt.Sprintf(format, args...)))
	}
}

func must[T any](value T, err error) T {
	check(err == nil, "%v", err)
	return value
}

func done(err error) { check(err == nil, "%v", err) }

func equal[T comparable](got, want T) { check(got == want, "%v, but %v is expected", got, want) }

func start(script string, options ...tc.ContainerCustomizer) *tc.DockerContainer {
	return must(tc.Run(ctx, "busybox", append([]tc.ContainerCustomizer{tc.WithCmd("sh", "-c", script)}, options...)...))
}

func end(c tc.Container) { done(c.Terminate(ctx, tc.StopTimeout(0))) }

func run(c tc.Container, options []exec.ProcessOption, args ...string) (int, string) {
	code, out, err := c.Exec(ctx, args, append(options, exec.Multiplexed())...)
	done(err)
	return code, string(must(io.ReadAll(out)))
}

func waits() {
	for _, strategy := range []wait.Strategy{
		wait.ForLog("begun"), wait.ForListeningPort("80/tcp"), wait.ForExposedPort(), wait.ForHTTP("/").WithPort("80/tcp"),
		wait.ForExec([]string{"test", "-e", "/w/index.html"}), wait.ForFile("/w/index.html"),
		wait.ForAll(wait.ForLog("beg.n").AsRegexp(), wait.ForListeningPort("80/tcp")),
	} {
		c := start(serve, tc.WithExposedPorts("80/tcp"), tc.WithWaitStrategy(strategy))
		end(c)
	}
	c := start(serve, tc.WithExposedPorts("80/tcp"), tc.WithWaitStrategy(wait.ForHealthCheck()), tc.WithConfigModifier(func(config *container.Config) {
		config.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "wget -qO- http://127.0.0.1/"}, Interval: 100 * time.Millisecond, Retries: 100}
	}))
	answer := must(http.Get(must(c.PortEndpoint(ctx, "80/tcp", "http"))))
	equal(string(must(io.ReadAll(answer.Body))), "page\n")
	end(c)
	c = start("exit 3", tc.WithWaitStrategy(wait.ForExit()))
	equal(must(c.State(ctx)).ExitCode, 3)
	end(c)
	_, err := tc.Run(ctx, "busybox", tc.WithCmd("true"), tc.WithLabels(map[string]string{"client": name}), tc.WithWaitStrategy(wait.ForLog("never").WithStartupTimeout(300*time.Millisecond)))
	check(err != nil, "waiting for what never comes has to fail")
}

type consumer chan string

func (c consumer) Accept(log tc.Log) { c <- log.LogType + " " + strings.TrimSpace(string(log.Content)) }

func filesAndLogs() {
	lines := make(consumer, 10)
	c := start("echo one; echo two >&2; "+sleep, tc.WithEnv(map[string]string{"A": "b"}), tc.WithTmpfs(map[string]string{"/t": "rw"}),
		tc.WithFiles(tc.ContainerFile{Reader: strings.NewReader("content"), ContainerFilePath: "/in", FileMode: 0o444}),
		tc.WithLogConsumers(lines), tc.WithWaitStrategy(wait.ForLog("two")))
	got := map[string]bool{<-lines: true, <-lines: true}
	check(got["STDOUT one"] && got["STDERR two"], "%v", got)
	code, out := run(c, []exec.ProcessOption{exec.WithEnv([]string{"C=d"}), exec.WithWorkingDir("/tmp"), exec.WithUser("0")}, "sh", "-c", "echo $A $C $PWD; exit 3")
	check(code == 3 && out == "b d /tmp\n", "%d %q", code, out)
	_, out = run(c, nil, "stat", "-c", "%a %s", "/in")
	equal(out, "444 7\n")
	done(c.CopyToContainer(ctx, []byte("late"), "/tmp/late", 0o600))
	back := must(c.CopyFileFromContainer(ctx, "/tmp/late"))
	equal(string(must(io.ReadAll(back))), "late")
	folder := must(os.MkdirTemp("", "gtk-testcontainers-"))
	defer os.RemoveAll(folder)
	done(os.WriteFile(filepath.Join(folder, "f"), []byte("from a folder"), 0o600))
	done(c.CopyDirToContainer(ctx, folder, "/tmp/x", 0o700))
	_, out = run(c, nil, "sh", "-c", "cat $(find /tmp -name f)")
	equal(out, "from a folder")
	grace := time.Second
	done(c.Stop(ctx, &grace))
	check(!c.IsRunning(), "it runs after a stop")
	done(c.Start(ctx))
	_, out = run(c, nil, "cat", "/tmp/late")
	equal(out, "late")
	end(c)
}

func networks() {
	net := must(network.New(ctx, network.WithDriver("bridge")))
	server := start(serve, network.WithNetwork([]string{"alpha"}, net), tc.WithWaitStrategy(wait.ForLog("begun")))
	peer := start(sleep, network.WithNetwork([]string{"beta"}, net))
	code, out := run(peer, nil, "sh", "-c", "for i in $(seq 50); do wget -qO- http://alpha/ && exit 0; sleep 0.1; done; exit 1")
	check(code == 0 && strings.HasSuffix(out, "page\n"), "%d %q", code, out)
	equal(strings.Join(must(server.Networks(ctx)), " "), net.Name)
	check(must(server.ContainerIP(ctx)) != "", "it has no address")
	end(server)
	end(peer)
	done(net.Remove(ctx))
}

func images() {
	folder := must(os.MkdirTemp("", "gtk-testcontainers-"))
	defer os.RemoveAll(folder)
	done(os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte("FROM busybox\nARG WHO\nRUN echo \"built by $WHO\" >/f\nCMD [\"cat\", \"/f\"]\n"), 0o600))
	who := "me"
	c := must(tc.Run(ctx, "", tc.WithDockerfile(tc.FromDockerfile{Context: folder, BuildArgs: map[string]*string{"WHO": &who}, Repo: name + "-tc", Tag: "go", KeepImage: true}), tc.WithWaitStrategy(wait.ForLog("built by me"))))
	end(c)
	docker := must(client.New(client.FromEnv))
	remote := registry + "/" + name + "-tc:go"
	_ = must(docker.ImageTag(ctx, client.ImageTagOptions{Source: name + "-tc:go", Target: remote}))
	push := must(docker.ImagePush(ctx, remote, client.ImagePushOptions{RegistryAuth: "e30="}))
	done(push.Wait(ctx))
	for _, ref := range []string{remote, name + "-tc:go"} {
		_ = must(docker.ImageRemove(ctx, ref, client.ImageRemoveOptions{}))
	}
	c = must(tc.Run(ctx, remote, tc.WithAlwaysPull(), tc.WithImagePlatform("linux/amd64"), tc.WithWaitStrategy(wait.ForLog("built by me"))))
	end(c)
	_ = must(docker.ImageRemove(ctx, remote, client.ImageRemoveOptions{}))
	_, err := tc.Run(ctx, registry+"/"+name+"-none:1")
	check(err != nil, "an image that is not there has to fail")
}

func reuse() {
	first := start(sleep, tc.WithReuseByName(name+"-reused"))
	second := start(sleep, tc.WithReuseByName(name+"-reused"))
	equal(second.GetContainerID(), first.GetContainerID())
	end(first)
}

// suite runs tests as suites have them, one after the other: a container each, waited for, asked, and taken away.
func suite(tests int) {
	for test := range tests {
		switch test % 3 {
		case 0:
			c := start(serve, tc.WithExposedPorts("80/tcp"), tc.WithWaitStrategy(wait.ForHTTP("/").WithPort("80/tcp").WithPollInterval(10*time.Millisecond)))
			answer := must(http.Get(must(c.PortEndpoint(ctx, "80/tcp", "http"))))
			equal(string(must(io.ReadAll(answer.Body))), "page\n")
			done(answer.Body.Close())
			end(c)
		case 1:
			c := start("echo begun; "+sleep, tc.WithEnv(map[string]string{"A": "b"}), tc.WithWaitStrategy(wait.ForLog("begun").WithPollInterval(10*time.Millisecond)))
			_, out := run(c, nil, "sh", "-c", "echo $A")
			equal(out, "b\n")
			end(c)
		case 2:
			c := start("echo result; exit 3", tc.WithWaitStrategy(wait.ForExit().WithPollInterval(10*time.Millisecond)))
			equal(must(c.State(ctx)).ExitCode, 3)
			logs := must(c.Logs(ctx))
			check(strings.Contains(string(must(io.ReadAll(logs))), "result"), "the log has no result")
			done(logs.Close())
			end(c)
		}
	}
}

func main() {
	if tests := os.Getenv("SUITE"); tests != "" {
		suite(must(strconv.Atoi(tests)))
		return
	}
	failed := false
	for _, section := range []struct {
		what string
		run  func()
	}{{"waits", waits}, {"files and logs", filesAndLogs}, {"networks", networks}, {"images", images}, {"reuse", reuse}} {
		func() {
			defer func() {
				if why := recover(); why != nil {
					failed = true
					fmt.Printf("FAILED %s: %v\n", section.what, why)
				}
			}()
			section.run()
			fmt.Println("ok", section.what)
		}()
	}
	docker := must(client.New(client.FromEnv))
	_ = must(docker.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: make(client.Filters).Add("label", "client="+name)}))
	if failed {
		os.Exit(1)
	}
}
