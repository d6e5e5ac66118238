package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type pipe struct{}

func (pipe) Read(b []byte) (int, error)       { return os.Stdin.Read(b) }
func (pipe) Write(b []byte) (int, error)      { return os.Stdout.Write(b) }
func (pipe) Close() error                     { return os.Stdout.Close() }
func (pipe) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "pipe"} }
func (pipe) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "pipe"} }
func (pipe) SetDeadline(time.Time) error      { return nil }
func (pipe) SetReadDeadline(time.Time) error  { return nil }
func (pipe) SetWriteDeadline(time.Time) error { return nil }

// define makes a definition of these operations, the last of which is wanted.
func define(ops ...*pb.Op) *pb.Definition {
	definition := &pb.Definition{}
	var last digest.Digest
	for _, op := range ops {
		bytes, err := op.Marshal()
		if err != nil {
			panic(err)
		}
		last = digest.FromBytes(bytes)
		definition.Def = append(definition.Def, bytes)
	}
	end, err := (&pb.Op{Inputs: []*pb.Input{{Digest: string(last)}}}).Marshal()
	if err != nil {
		panic(err)
	}
	definition.Def = append(definition.Def, end)
	return definition
}

func command(change func(*pb.ExecOp)) *pb.Definition {
	image := &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://docker.io/library/busybox:latest"}}}
	bytes, err := image.Marshal()
	if err != nil {
		panic(err)
	}
	exec := &pb.ExecOp{
		Meta:   &pb.Meta{Args: []string{"/bin/sh", "-c", "id"}, Cwd: "/"},
		Mounts: []*pb.Mount{{Input: 0, Dest: "/", Output: 0}},
	}
	change(exec)
	input := &pb.Input{Digest: string(digest.FromBytes(bytes))}
	return define(image, &pb.Op{Inputs: []*pb.Input{input}, Op: &pb.Op_Exec{Exec: exec}})
}

func file(actions ...*pb.FileAction) *pb.Definition {
	return define(&pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: actions}}})
}

func source(identifier string, attrs map[string]string) *pb.Definition {
	return define(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: identifier, Attrs: attrs}}})
}

// raw asks for what a front end has no business with, and tells by name what came of it.
func raw(ctx context.Context) error {
	dial := grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return pipe{}, nil })
	conn, err := grpc.NewClient("passthrough:localhost", dial, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	c := gateway.NewLLBBridgeClient(conn)
	canary := os.Getenv("TEST_RAW")
	up := strings.Repeat("../", 30)
	told := map[string]string{}
	note := func(name string, got any, err error) {
		if err != nil {
			told[name] = "refused: " + err.Error()
			return
		}
		told[name] = fmt.Sprintf("got: %v", got)
	}
	solve := func(name string, definition *pb.Definition) string {
		answer, err := c.Solve(ctx, &gateway.SolveRequest{Definition: definition, Evaluate: true})
		note(name, "a state", err)
		if err != nil {
			return ""
		}
		return answer.GetResult().GetRef().GetId()
	}
	mkfile := func(path string) *pb.FileAction {
		return &pb.FileAction{Input: -1, SecondaryInput: -1, Output: 0, Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: path, Mode: 0o644, Data: []byte("overwritten"), Timestamp: -1}}}
	}
	own := solve("own", command(func(*pb.ExecOp) {}))
	for name, path := range map[string]string{"up": up + canary, "absolute": canary, "proc": "/proc/1/root" + canary} {
		read, err := c.ReadFile(ctx, &gateway.ReadFileRequest{Ref: own, FilePath: path})
		note("read "+name, string(read.GetData()), err)
		stat, err := c.StatFile(ctx, &gateway.StatFileRequest{Ref: own, Path: path})
		note("stat "+name, stat, err)
		dir, err := c.ReadDir(ctx, &gateway.ReadDirRequest{Ref: own, DirPath: path})
		note("list "+name, dir, err)
		solve("write "+name, file(mkfile(path)))
		_, err = c.ReadFile(ctx, &gateway.ReadFileRequest{Ref: path, FilePath: "/"})
		note("ref "+name, "a file", err)
		_, err = c.Solve(ctx, &gateway.SolveRequest{Frontend: path})
		note("frontend "+name, "a result", err)
		_, err = c.Solve(ctx, &gateway.SolveRequest{Frontend: "gateway.v0", FrontendOpt: map[string]string{"source": path}})
		note("source "+name, "a result", err)
		solve("local "+name, source("local://"+path, map[string]string{"local.sharedkeyhint": path, "local.includepattern": `["` + path + `"]`}))
		solve("layout "+name, source("oci-layout://"+path, map[string]string{"oci.store": path}))
		solve("git "+name, source("git://"+path, map[string]string{"git.fullurl": "file://" + path}))
		solve("http "+name, source("file://"+path, nil))
		_, err = c.NewContainer(ctx, &gateway.NewContainerRequest{ContainerID: path, Mounts: []*pb.Mount{{Dest: "/", ResultID: path}}})
		note("container of "+name, "a container", err)
	}
	solve("cache", command(func(e *pb.ExecOp) {
		e.Meta.Args[2] = "echo overwritten >/c/canary"
		e.Mounts = append(e.Mounts, &pb.Mount{Dest: "/c", Input: -1, Output: -1, MountType: pb.MountType_CACHE, CacheOpt: &pb.CacheOpt{ID: up + canary}})
	}))
	solve("secret", command(func(e *pb.ExecOp) {
		e.Mounts = append(e.Mounts, &pb.Mount{Dest: "/s", Input: -1, Output: -1, MountType: pb.MountType_SECRET, SecretOpt: &pb.SecretOpt{ID: up + canary}})
	}))
	solve("target", command(func(e *pb.ExecOp) {
		e.Meta.Args[2] = "echo overwritten >" + canary
		e.Mounts = append(e.Mounts, &pb.Mount{Dest: up + "/tmp", Input: -1, Output: -1, MountType: pb.MountType_TMPFS})
	}))
	for name, change := range map[string]func(*pb.ExecOp){
		"security 1":      func(e *pb.ExecOp) { e.Security = pb.SecurityMode_INSECURE },
		"security 99":     func(e *pb.ExecOp) { e.Security = 99 },
		"network 1":       func(e *pb.ExecOp) { e.Network = pb.NetMode_HOST },
		"network 99":      func(e *pb.ExecOp) { e.Network = 99 },
		"no meta":         func(e *pb.ExecOp) { e.Meta = nil },
		"no words":        func(e *pb.ExecOp) { e.Meta.Args = nil },
		"no mounts":       func(e *pb.ExecOp) { e.Mounts = nil },
		"input 7":         func(e *pb.ExecOp) { e.Mounts[0].Input = 7 },
		"input least":     func(e *pb.ExecOp) { e.Mounts[0].Input = -1 << 63 },
		"output most":     func(e *pb.ExecOp) { e.Mounts[0].Output = 1<<63 - 1 },
		"output large":    func(e *pb.ExecOp) { e.Mounts[0].Output = 1 << 40 },
		"output least":    func(e *pb.ExecOp) { e.Mounts[0].Output = -1 << 63 },
		"kind of mount":   func(e *pb.ExecOp) { e.Mounts = append(e.Mounts, &pb.Mount{Dest: "/x", Input: -1, Output: -1, MountType: 99}) },
		"size of a tmpfs": func(e *pb.ExecOp) { e.Mounts = append(e.Mounts, &pb.Mount{Dest: "/x", Input: -1, Output: -1, MountType: pb.MountType_TMPFS, TmpfsOpt: &pb.TmpfsOpt{Size: -1 << 63}}) },
	} {
		solve(name, command(change))
	}
	solve("nothing", &pb.Definition{Def: [][]byte{nil, {0xff, 0xff, 0xff}}})
	solve("no input", define(&pb.Op{Inputs: []*pb.Input{{Digest: "sha256:" + strings.Repeat("0", 64)}}, Op: &pb.Op_Merge{Merge: &pb.MergeOp{Inputs: []*pb.MergeInput{{Input: 1 << 62}}}}}))
	solve("diff of nothing", define(&pb.Op{Op: &pb.Op_Diff{Diff: &pb.DiffOp{}}}))
	solve("build of nothing", define(&pb.Op{Op: &pb.Op_Build{Build: &pb.BuildOp{Builder: 1 << 62}}}))
	solve("file output", file(func() *pb.FileAction { a := mkfile("/x"); a.Output = 1 << 40; return a }()))
	solve("file input", file(func() *pb.FileAction { a := mkfile("/x"); a.Input = 1 << 40; return a }()))
	solve("file nothing", file(&pb.FileAction{Input: -1, SecondaryInput: -1}))
	hostile(ctx, c, own, up+canary, note)
	text, err := json.Marshal(told)
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{"Labels": map[string]string{"told": string(text)}}})
	if err != nil {
		return err
	}
	_, err = c.Return(ctx, &gateway.ReturnRequest{Result: &gateway.Result{
		Result:   &gateway.Result_Ref{Ref: &gateway.Ref{Id: own}},
		Metadata: map[string][]byte{"containerimage.config": config},
	}})
	return err
}

// hostile names of containers and processes are names and nothing else.
func hostile(ctx context.Context, c gateway.LLBBridgeClient, own, name string, note func(string, any, error)) {
	_, err := c.NewContainer(ctx, &gateway.NewContainerRequest{ContainerID: name, Mounts: []*pb.Mount{{Dest: "/", ResultID: own}}})
	note("new container", "a container", err)
	_, err = c.NewContainer(ctx, &gateway.NewContainerRequest{ContainerID: name, Mounts: []*pb.Mount{{Dest: "/", ResultID: own}}})
	note("same container", "a container", err)
	_, err = c.NewContainer(ctx, &gateway.NewContainerRequest{ContainerID: strings.Repeat("x", 300)})
	note("long container", "a container", err)
	stream, err := c.ExecProcess(ctx)
	if err != nil {
		note("process", "", err)
		return
	}
	init := &gateway.InitMessage{ContainerID: name, Meta: &pb.Meta{Args: []string{"/bin/echo", "hostile"}, Cwd: "/"}, Fds: []uint32{1, 2, 77}}
	if err := stream.Send(&gateway.ExecMessage{ProcessID: name, Input: &gateway.ExecMessage_Init{Init: init}}); err != nil {
		note("process", "", err)
		return
	}
	said := ""
	for {
		message, err := stream.Recv()
		if err == io.EOF || err != nil {
			note("process", said, err)
			return
		}
		said += string(message.GetFile().GetData())
		if message.GetDone() != nil {
			note("process", said, nil)
			break
		}
	}
	_, err = c.ReleaseContainer(ctx, &gateway.ReleaseContainerRequest{ContainerID: name})
	note("release", "done", err)
	_, err = c.ReleaseContainer(ctx, &gateway.ReleaseContainerRequest{ContainerID: name})
	note("release again", "done", err)
}
