// A front end for the tests: a language of a few words, turned into LLB over the gateway's protocol.
//
//	base NAME     the image to stand on
//	write TEXT    a file /said
//	env NAME      a file /env with a build argument
//	run COMMAND   a command over the state so far, in a container of the front end; its output is /ran
//	beside        two commands in one container, one beside the other
//	attest        a file of its own that says something of the result, and a folder with one more statement
//	fail          ends with an error of its own
//	die           ends without a result
//	again         asks for itself once more, without end
//	hostile PATH  names what is outside of everything that it was given; what was refused is told in the image's labels
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/solver/result"
	"github.com/opencontainers/go-digest"
)

func main() {
	if os.Getenv("TEST_RAW") != "" {
		if err := raw(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := grpcclient.RunFromEnvironment(context.Background(), build); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func solved(ctx context.Context, c client.Client, state llb.State) (client.Reference, error) {
	definition, err := state.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		return nil, err
	}
	result, err := c.Solve(ctx, client.SolveRequest{Definition: definition.ToPB(), Evaluate: true})
	if err != nil {
		return nil, err
	}
	return result.SingleRef()
}

// read gives the file that is built, having looked at it in all ways there are.
func read(ctx context.Context, c client.Client) ([]byte, error) {
	opts := c.BuildOpts()
	name := opts.Opts["filename"]
	if name == "" {
		name = "Dockerfile"
	}
	source := llb.Local("dockerfile", llb.IncludePatterns([]string{name}), llb.SessionID(opts.SessionID),
		llb.WithCustomName("[front] load "+name))
	ref, err := solved(ctx, c, source)
	if err != nil {
		return nil, err
	}
	stat, err := ref.StatFile(ctx, client.StatRequest{Path: name})
	if err != nil {
		return nil, err
	}
	entries, err := ref.ReadDir(ctx, client.ReadDirRequest{Path: "/"})
	if err != nil {
		return nil, err
	}
	data, err := ref.ReadFile(ctx, client.ReadRequest{Filename: name})
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != stat.Size || len(entries) != 1 || entries[0].Path != name {
		return nil, fmt.Errorf("looked at in different ways %s is different", name)
	}
	return data, nil
}

// attest says two things of a result: a predicate in a file, and a statement in a folder.
func attest(ctx context.Context, c client.Client) ([]client.Attestation, error) {
	statement := `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://test.example/bundled","predicate":{"said":"in a bundle"}}`
	state := llb.Scratch().
		File(llb.Mkfile("/said.json", 0o644, []byte(`{"said":"by the front end"}`))).
		File(llb.Mkdir("/bundle", 0o755)).
		File(llb.Mkfile("/bundle/one.json", 0o644, []byte(statement)))
	ref, err := solved(ctx, c, state)
	if err != nil {
		return nil, err
	}
	raw := result.InTotoSubject{
		Kind:   gateway.InTotoSubjectKind_Raw,
		Name:   "another",
		Digest: []digest.Digest{digest.FromString("another")},
	}
	one := result.InTotoAttestation{
		PredicateType: "https://test.example/said",
		Subjects:      []result.InTotoSubject{{Kind: gateway.InTotoSubjectKind_Self}, raw},
	}
	return []client.Attestation{
		{Kind: gateway.AttestationKind_InToto, Ref: ref, Path: "/said.json", InToto: one},
		{Kind: gateway.AttestationKind_Bundle, Ref: ref, Path: "/bundle"},
	}, nil
}

func build(ctx context.Context, c client.Client) (*client.Result, error) {
	opts := c.BuildOpts()
	if len(opts.Workers) != 1 || opts.LLBCaps.Supports(pb.CapExecMountSecret) != nil {
		return nil, errors.New("the engine tells nothing of its worker")
	}
	data, err := read(ctx, c)
	if err != nil {
		return nil, err
	}
	state := llb.Scratch()
	image := map[string]any{"architecture": "amd64", "os": "linux"}
	var attested []client.Attestation
	for _, line := range strings.Split(string(data), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "base":
			source := &pb.SourceOp{Identifier: "docker-image://" + rest}
			found, err := c.ResolveSourceMetadata(ctx, source, sourceresolver.Opt{})
			if err != nil {
				return nil, err
			}
			if err := json.Unmarshal(found.Image.Config, &image); err != nil {
				return nil, err
			}
			state = llb.Image(rest)
		case "write":
			state = state.File(llb.Mkfile("/said", 0o644, []byte(rest)))
		case "env":
			state = state.File(llb.Mkfile("/env", 0o644, []byte(opts.Opts["build-arg:"+rest])))
		case "run":
			said, err := run(ctx, c, state, rest)
			if err != nil {
				return nil, err
			}
			state = state.File(llb.Mkfile("/ran", 0o644, said))
		case "beside":
			said, err := beside(ctx, c, state)
			if err != nil {
				return nil, err
			}
			state = state.File(llb.Mkfile("/beside", 0o644, said))
		case "attest":
			attested, err = attest(ctx, c)
			if err != nil {
				return nil, err
			}
		case "fail":
			return nil, errors.New("the front end says no")
		case "die":
			fmt.Fprintln(os.Stderr, "last words")
			os.Exit(3)
		case "again":
			own := opts.Opts
			own["source"] = strings.Fields(opts.Opts["cmdline"])[0]
			return c.Solve(ctx, client.SolveRequest{Frontend: "gateway.v0", FrontendOpt: own})
		}
	}
	ref, err := solved(ctx, c, state)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(image)
	if err != nil {
		return nil, err
	}
	result := client.NewResult()
	result.SetRef(ref)
	result.AddMeta("containerimage.config", config)
	for _, one := range attested {
		result.AddAttestation("linux/amd64", one)
	}
	return result, nil
}

type closer struct{ *bytes.Buffer }

func (closer) Close() error { return nil }

func container(ctx context.Context, c client.Client, state llb.State) (client.Container, error) {
	ref, err := solved(ctx, c, state)
	if err != nil {
		return nil, err
	}
	return c.NewContainer(ctx, client.NewContainerRequest{
		Mounts: []client.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: ref}},
	})
}

// run gives what a command says, which reads its input to the end.
func run(ctx context.Context, c client.Client, state llb.State, command string) ([]byte, error) {
	ctr, err := container(ctx, c, state)
	if err != nil {
		return nil, err
	}
	defer ctr.Release(ctx)
	out, errs := closer{&bytes.Buffer{}}, closer{&bytes.Buffer{}}
	process, err := ctr.Start(ctx, client.StartRequest{
		Args:   []string{"/bin/sh", "-c", command},
		Env:    []string{"PATH=/bin"},
		Stdin:  io.NopCloser(strings.NewReader("from the input")),
		Stdout: out,
		Stderr: errs,
	})
	if err != nil {
		return nil, err
	}
	if err := process.Wait(); err != nil {
		var exit *gateway.ExitError
		if !errors.As(err, &exit) {
			return nil, err
		}
		fmt.Fprintf(out, "code %d", exit.ExitCode)
	}
	out.Write(errs.Bytes())
	return out.Bytes(), nil
}

// beside lets one command wait while another runs beside it, and then ends it by a signal.
func beside(ctx context.Context, c client.Client, state llb.State) ([]byte, error) {
	ctr, err := container(ctx, c, state)
	if err != nil {
		return nil, err
	}
	defer ctr.Release(ctx)
	out := closer{&bytes.Buffer{}}
	first, err := ctr.Start(ctx, client.StartRequest{
		Args: []string{"/bin/sh", "-c", "trap 'exit 7' TERM; echo 1 >/tmp/new; mv /tmp/new /tmp/first; while :; do sleep 0.1; done"},
		Env:  []string{"PATH=/bin"},
	})
	if err != nil {
		return nil, err
	}
	second, err := ctr.Start(ctx, client.StartRequest{
		Args:   []string{"/bin/sh", "-c", "until cat /tmp/first; do sleep 0.1; done 2>/dev/null; exit 5"},
		Env:    []string{"PATH=/bin"},
		Stdout: out,
	})
	if err != nil {
		return nil, err
	}
	code := func(err error) uint32 {
		var exit *gateway.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode
		}
		return 0
	}
	fmt.Fprintf(out, "second %d ", code(second.Wait()))
	if err := first.Signal(ctx, 15); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "first %d", code(first.Wait()))
	return out.Bytes(), nil
}
