// Docker's own client for Go over its wide surface. Each section is run; the program ends with 1 when one of them failed.
// NAME: what its objects are called after. REGISTRY: host:port of a registry that takes pushes. SUBNET: the first three
// numbers of addresses that it may use.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"
)

var (
	name     = os.Getenv("NAME")
	registry = os.Getenv("REGISTRY")
	subnet   = os.Getenv("SUBNET")
	ctx      = context.Background()
	labels   = map[string]string{"client": name}
	mine     = filters.NewArgs(filters.Arg("label", "client="+name))
	docker   *client.Client
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

func fails(err error, is func(error) bool, text string) {
	check(err != nil, "an error with %q is expected", text)
	check(is(err) && strings.Contains(err.Error(), text), "%v (%T) is not the error expected, %q", err, err, text)
}

func sleeper(part string, host *container.HostConfig, change func(*container.Config)) string {
	config := &container.Config{
		Image: "busybox", Labels: labels,
		Cmd: []string{"sh", "-c", "trap 'exit 0' TERM; while :; do sleep 600 & wait; done"},
	}
	if change != nil {
		change(config)
	}
	if part != "" {
		part = name + "-" + part
	}
	id := must(docker.ContainerCreate(ctx, config, host, nil, nil, part)).ID
	done(docker.ContainerStart(ctx, id, container.StartOptions{}))
	return id
}

func remove(id string) {
	done(docker.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true}))
}

func demux(r io.Reader) (string, string) {
	var out, err bytes.Buffer
	_ = must(stdcopy.StdCopy(&out, &err, r))
	return out.String(), err.String()
}

func exec(id string, options container.ExecOptions, input string) (string, string, int) {
	options.AttachStdout, options.AttachStderr, options.AttachStdin = true, true, input != ""
	made := must(docker.ContainerExecCreate(ctx, id, options))
	stream := must(docker.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{Tty: options.Tty}))
	defer stream.Close()
	if input != "" {
		_ = must(io.WriteString(stream.Conn, input))
		done(stream.CloseWrite())
	}
	var out, err string
	if options.Tty {
		out = string(must(io.ReadAll(stream.Reader)))
	} else {
		out, err = demux(stream.Reader)
	}
	return out, err, must(docker.ContainerExecInspect(ctx, made.ID)).ExitCode
}

func pack(files map[string]string) io.Reader {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, data := range files {
		done(w.WriteHeader(&tar.Header{Name: name, Mode: 0o640, Size: int64(len(data))}))
		_ = must(io.WriteString(w, data))
	}
	done(w.Close())
	return &out
}

func progress(r io.ReadCloser) (lines []jsonmessage.JSONMessage, err error) {
	defer r.Close()
	for d := json.NewDecoder(r); ; {
		var line jsonmessage.JSONMessage
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return lines, nil
		} else if err != nil {
			return lines, err
		}
		if line.Error != nil {
			return lines, line.Error
		}
		lines = append(lines, line)
	}
}

func system() {
	ping := must(docker.Ping(ctx))
	equal(ping.OSType, "linux")
	equal(ping.SwarmStatus.NodeState, "inactive")
	info := must(docker.Info(ctx))
	check(info.NCPU > 0 && info.ID != "" && info.Driver != "", "%+v", info)
	equal(must(docker.ServerVersion(ctx)).Os, "linux")
}

func attachWithoutTerminal() {
	id := must(docker.ContainerCreate(ctx, &container.Config{Image: "busybox", Labels: labels, Cmd: []string{"sh", "-c", "cat; echo end >&2; exit 3"}, OpenStdin: true, StdinOnce: true}, nil, nil, nil, "")).ID
	stream := must(docker.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))
	defer stream.Close()
	ended, failed := docker.ContainerWait(ctx, id, container.WaitConditionNextExit)
	done(docker.ContainerStart(ctx, id, container.StartOptions{}))
	_ = must(io.WriteString(stream.Conn, "typed\n"))
	done(stream.CloseWrite())
	media, _ := stream.MediaType()
	equal(media, "application/vnd.docker.multiplexed-stream")
	out, err := demux(stream.Reader)
	equal(out, "typed\n")
	equal(err, "end\n")
	select {
	case end := <-ended:
		equal(end.StatusCode, 3)
	case err := <-failed:
		done(err)
	}
	logs := must(docker.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: true, Timestamps: true}))
	out, err = demux(logs)
	check(strings.HasSuffix(out, "Z typed\n") && strings.HasSuffix(err, "Z end\n"), "%q %q", out, err)
	remove(id)
}

func attachWithTerminal() {
	id := must(docker.ContainerCreate(ctx, &container.Config{Image: "busybox", Labels: labels, Cmd: []string{"sh"}, OpenStdin: true, Tty: true}, nil, nil, nil, "")).ID
	stream := must(docker.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true}))
	defer stream.Close()
	done(docker.ContainerStart(ctx, id, container.StartOptions{}))
	done(docker.ContainerResize(ctx, id, container.ResizeOptions{Height: 33, Width: 101}))
	_ = must(io.WriteString(stream.Conn, "stty size; exit 7\n"))
	text := string(must(io.ReadAll(stream.Reader)))
	check(strings.Contains(text, "33 101\r\n"), "%q", text)
	ended, _ := docker.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	equal((<-ended).StatusCode, 7)
	fails(docker.ContainerResize(ctx, id, container.ResizeOptions{Height: 1, Width: 1}), cerrdefs.IsConflict, "not running")
	remove(id)
}

func execs() {
	id := sleeper("", nil, nil)
	out, err, code := exec(id, container.ExecOptions{Cmd: []string{"sh", "-c", "cat; echo $A $PWD >&2; exit 4"}, Env: []string{"A=b"}, WorkingDir: "/tmp"}, "typed\n")
	check(out == "typed\n" && err == "b /tmp\n" && code == 4, "%q %q %d", out, err, code)
	size := [2]uint{57, 123}
	out, _, _ = exec(id, container.ExecOptions{Cmd: []string{"stty", "size"}, Tty: true, ConsoleSize: &size}, "")
	equal(out, "57 123\r\n")
	_, _, code = exec(id, container.ExecOptions{Cmd: []string{"/no/such"}}, "")
	equal(code, 127)
	_, wrong := docker.ContainerExecInspect(ctx, "none")
	fails(wrong, cerrdefs.IsNotFound, "No such exec instance")
	top := must(docker.ContainerTop(ctx, id, []string{"-o", "pid,cmd"}))
	check(len(top.Titles) == 2 && len(top.Processes) > 0, "%+v", top)
	remove(id)
}

func life() {
	id := sleeper("life", &container.HostConfig{Resources: container.Resources{Memory: 64 << 20}}, nil)
	_, taken := docker.ContainerCreate(ctx, &container.Config{Image: "busybox"}, nil, nil, nil, name+"-life")
	fails(taken, cerrdefs.IsConflict, "is already in use")
	done(docker.ContainerPause(ctx, id))
	check(must(docker.ContainerInspect(ctx, id)).State.Paused, "it is not paused")
	done(docker.ContainerUnpause(ctx, id))
	_ = must(docker.ContainerUpdate(ctx, id, container.UpdateConfig{Resources: container.Resources{Memory: 96 << 20, MemorySwap: -1}}))
	equal(must(docker.ContainerInspect(ctx, id)).HostConfig.Memory, 96<<20)
	done(docker.ContainerRename(ctx, id, name+"-renamed"))
	rows := must(docker.ContainerList(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("name", name+"-renamed"), filters.Arg("status", "running"))}))
	check(len(rows) == 1 && rows[0].ID == id, "%+v", rows)
	grace := 5
	done(docker.ContainerRestart(ctx, id, container.StopOptions{Timeout: &grace}))
	fails(docker.ContainerRemove(ctx, id, container.RemoveOptions{}), cerrdefs.IsConflict, "running")
	gone, _ := docker.ContainerWait(ctx, id, container.WaitConditionRemoved)
	next, _ := docker.ContainerWait(ctx, id, container.WaitConditionNextExit)
	done(docker.ContainerStop(ctx, id, container.StopOptions{Timeout: &grace}))
	equal((<-next).StatusCode, 0)
	fails(docker.ContainerKill(ctx, id, "KILL"), cerrdefs.IsConflict, "not running")
	done(docker.ContainerRemove(ctx, id, container.RemoveOptions{}))
	equal((<-gone).StatusCode, 0)
	_, missing := docker.ContainerInspect(ctx, id)
	fails(missing, cerrdefs.IsNotFound, "No such container")
}

func files() {
	id := sleeper("", nil, nil)
	done(docker.CopyToContainer(ctx, id, "/tmp", pack(map[string]string{"a": "alpha", "d/b": "beta"}), container.CopyToContainerOptions{}))
	stream, stat, err := docker.CopyFromContainer(ctx, id, "/tmp/a")
	done(err)
	check(stat.Name == "a" && stat.Size == 5, "%+v", stat)
	reader := tar.NewReader(stream)
	head := must(reader.Next())
	equal(head.Name, "a")
	equal(string(must(io.ReadAll(reader))), "alpha")
	done(stream.Close())
	_, err = docker.ContainerStatPath(ctx, id, "/nowhere")
	fails(err, cerrdefs.IsNotFound, "")
	_, _, err = docker.CopyFromContainer(ctx, id, "/nowhere")
	fails(err, cerrdefs.IsNotFound, "Could not find the file")
	changed := false
	for _, change := range must(docker.ContainerDiff(ctx, id)) {
		changed = changed || (change.Path == "/tmp/a" && change.Kind == container.ChangeAdd)
	}
	check(changed, "the diff lacks /tmp/a")
	made := must(docker.ContainerCommit(ctx, id, container.CommitOptions{Reference: name + "-go:1", Changes: []string{"ENV X=y"}}))
	equal(must(docker.ImageInspect(ctx, name+"-go:1")).ID, made.ID)
	_ = must(docker.ImageRemove(ctx, name+"-go:1", image.RemoveOptions{}))
	export := must(docker.ContainerExport(ctx, id))
	_ = must(tar.NewReader(export).Next())
	done(export.Close())
	remove(id)
}

func statistics() {
	id := sleeper("", nil, nil)
	shot := must(docker.ContainerStatsOneShot(ctx, id))
	var one, two container.StatsResponse
	done(json.NewDecoder(shot.Body).Decode(&one))
	equal(shot.OSType, "linux")
	check(one.MemoryStats.Usage > 0 && one.PidsStats.Current > 0, "%+v", one)
	stream := must(docker.ContainerStats(ctx, id, true))
	decoder := json.NewDecoder(stream.Body)
	done(decoder.Decode(&one))
	done(decoder.Decode(&two))
	equal(two.PreCPUStats.CPUUsage.TotalUsage, one.CPUStats.CPUUsage.TotalUsage)
	equal(two.ID, id)
	done(stream.Body.Close())
	remove(id)
}

func images() {
	tag := name + "-built:1"
	answer := must(docker.ImageBuild(ctx, pack(map[string]string{"Dockerfile": "FROM busybox\nARG WHO\nCOPY f /f\nRUN echo \"$WHO\" >>/f\n", "f": "base\n"}), build.ImageBuildOptions{Tags: []string{tag}, BuildArgs: map[string]*string{"WHO": &name}, Remove: true, Labels: labels}))
	var id string
	for _, line := range must(progress(answer.Body)) {
		if line.Aux != nil {
			var result build.Result
			done(json.Unmarshal(*line.Aux, &result))
			id = result.ID
		}
	}
	inspected := must(docker.ImageInspect(ctx, tag))
	equal(inspected.ID, id)
	check(len(must(docker.ImageHistory(ctx, tag))) >= 2, "the history is short")
	broken := must(docker.ImageBuild(ctx, pack(map[string]string{"Dockerfile": "FROM busybox\nRUN exit 5\n"}), build.ImageBuildOptions{ForceRemove: true}))
	_, err := progress(broken.Body)
	check(err != nil && strings.Contains(err.Error(), "returned a non-zero code: 5"), "%v", err)
	saved := must(io.ReadAll(must(docker.ImageSave(ctx, []string{tag}))))
	_ = must(docker.ImageRemove(ctx, tag, image.RemoveOptions{Force: true}))
	loaded := must(docker.ImageLoad(ctx, bytes.NewReader(saved)))
	check(loaded.JSON, "the answer of a load is JSON")
	_ = must(progress(loaded.Body))
	equal(must(docker.ImageInspect(ctx, tag)).ID, id)

	remote := registry + "/" + name + "-go:1"
	done(docker.ImageTag(ctx, tag, remote))
	auth := base64.URLEncoding.EncodeToString([]byte(`{"username":"a","password":"b"}`))
	_ = must(progress(must(docker.ImagePush(ctx, remote, image.PushOptions{RegistryAuth: auth}))))
	rows := must(docker.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", remote))}))
	check(len(rows) == 1 && rows[0].ID == id, "%+v", rows)
	equal(len(must(docker.ImageInspect(ctx, remote)).RepoDigests), 1)
	for _, ref := range []string{remote, tag} {
		_ = must(docker.ImageRemove(ctx, ref, image.RemoveOptions{}))
	}
	_, err = docker.ImageInspect(ctx, tag)
	fails(err, cerrdefs.IsNotFound, "No such image")
	_ = must(progress(must(docker.ImagePull(ctx, remote, image.PullOptions{Platform: "linux/amd64"}))))
	equal(must(docker.ImageInspect(ctx, remote)).ID, id)
	equal(must(docker.DistributionInspect(ctx, remote, auth)).Platforms[0].OS, "linux")
	_, err = docker.ImagePull(ctx, registry+"/"+name+"-none:1", image.PullOptions{})
	check(err != nil, "a pull of what is not there has to fail")
	_ = must(docker.ImageRemove(ctx, remote, image.RemoveOptions{PruneChildren: true}))
}

func networks() {
	net := name + "-go"
	made := must(docker.NetworkCreate(ctx, net, network.CreateOptions{Driver: "bridge", Labels: labels, IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet + ".16/28"}}}}))
	server := must(docker.ContainerCreate(ctx, &container.Config{Image: "busybox", Labels: labels, Cmd: []string{"sleep", "600"}, ExposedPorts: nat.PortSet{"80/tcp": {}}},
		&container.HostConfig{NetworkMode: container.NetworkMode(net), PortBindings: nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1"}}}},
		&network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{net: {Aliases: []string{"here"}, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: subnet + ".20"}}}}, nil, "")).ID
	done(docker.ContainerStart(ctx, server, container.StartOptions{}))
	settings := must(docker.ContainerInspect(ctx, server)).NetworkSettings
	check(settings.Ports["80/tcp"][0].HostPort != "", "%+v", settings.Ports)
	equal(settings.Networks[net].IPAddress, subnet+".20")
	peer := sleeper("", &container.HostConfig{NetworkMode: container.NetworkMode(net)}, nil)
	out, err, code := exec(peer, container.ExecOptions{Cmd: []string{"ping", "-c", "1", "here"}}, "")
	check(code == 0, "%s%s", out, err)
	equal(must(docker.NetworkInspect(ctx, made.ID, network.InspectOptions{})).Containers[server].IPv4Address, subnet+".20/28")
	fails(docker.NetworkRemove(ctx, net), cerrdefs.IsPermissionDenied, "has active endpoints")
	done(docker.NetworkDisconnect(ctx, net, peer, false))
	done(docker.NetworkConnect(ctx, net, peer, &network.EndpointSettings{Aliases: []string{"again"}}))
	remove(server)
	remove(peer)
	equal(strings.Join(must(docker.NetworksPrune(ctx, mine)).NetworksDeleted, " "), net)
	_, missing := docker.NetworkInspect(ctx, net, network.InspectOptions{})
	fails(missing, cerrdefs.IsNotFound, "not found")
}

func volumes() {
	vol := must(docker.VolumeCreate(ctx, volume.CreateOptions{Name: name + "-go", Labels: labels}))
	id := sleeper("", &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: vol.Name, Target: "/v"}, {Type: mount.TypeTmpfs, Target: "/t", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20}}}}, nil)
	fails(docker.VolumeRemove(ctx, vol.Name, false), cerrdefs.IsConflict, "volume is in use")
	remove(id)
	equal(len(must(docker.VolumeList(ctx, volume.ListOptions{Filters: mine})).Volumes), 1)
	all := mine.Clone()
	all.Add("all", "true")
	equal(strings.Join(must(docker.VolumesPrune(ctx, all)).VolumesDeleted, " "), vol.Name)
	_, err := docker.VolumeInspect(ctx, vol.Name)
	fails(err, cerrdefs.IsNotFound, "no such volume")
}

func eventsAndPrune() {
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	messages, failed := docker.Events(within, events.ListOptions{Filters: filters.NewArgs(filters.Arg("container", name+"-ev"), filters.Arg("type", "container"))})
	id := must(docker.ContainerCreate(ctx, &container.Config{Image: "busybox", Labels: labels, Cmd: []string{"true"}}, nil, nil, nil, name+"-ev")).ID
	ended, _ := docker.ContainerWait(ctx, id, container.WaitConditionNextExit)
	done(docker.ContainerStart(ctx, id, container.StartOptions{}))
	equal((<-ended).StatusCode, 0)
	equal(strings.Join(must(docker.ContainersPrune(ctx, mine)).ContainersDeleted, " "), id)
	var seen []string
	for len(seen) == 0 || seen[len(seen)-1] != "destroy" {
		select {
		case message := <-messages:
			equal(message.Actor.Attributes["client"], name)
			seen = append(seen, string(message.Action))
		case err := <-failed:
			done(err)
		}
	}
	equal(strings.Join(seen, " "), "create start die destroy")
}

func wrongRequests() {
	_, err := docker.ContainerCreate(ctx, &container.Config{Image: "no-such-image"}, nil, nil, nil, "")
	fails(err, cerrdefs.IsNotFound, "No such image: no-such-image:latest")
	_, err = docker.ContainerCreate(ctx, &container.Config{Image: "busybox"}, nil, nil, nil, "a b")
	fails(err, cerrdefs.IsInvalidArgument, "Invalid container name")
	_, err = docker.ContainerList(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("nonsense", "x"))})
	fails(err, cerrdefs.IsInvalidArgument, "nonsense")
	_, err = docker.SwarmInspect(ctx)
	fails(err, cerrdefs.IsUnavailable, "not a swarm manager")
}

func main() {
	docker = must(client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()))
	failed := false
	for _, section := range []struct {
		what string
		run  func()
	}{
		{"system", system}, {"attach without a terminal", attachWithoutTerminal}, {"attach with a terminal", attachWithTerminal},
		{"exec", execs}, {"life of a container", life}, {"files", files}, {"statistics", statistics}, {"images", images},
		{"networks", networks}, {"volumes", volumes}, {"events and prune", eventsAndPrune}, {"wrong requests", wrongRequests},
	} {
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
	for _, left := range must(docker.ContainerList(ctx, container.ListOptions{All: true, Filters: mine})) {
		remove(left.ID)
	}
	if failed {
		os.Exit(1)
	}
}
