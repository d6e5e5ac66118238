// A bridge per network, a pair of links per endpoint.

package main

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"

	"github.com/docker/go-plugins-helpers/network"
)

type bridges struct {
	sync.Mutex
	// Begins the names of all links, at most four letters.
	mark string
	// By network its gateway.
	gateways map[string]string
}

func serveNetworks(listener net.Listener, mark string) error {
	return network.NewHandler(&bridges{mark: mark, gateways: map[string]string{}}).Serve(listener)
}

func ip(line string, words ...any) error {
	said, err := exec.Command("ip", strings.Fields(fmt.Sprintf(line, words...))...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip "+line+": %w: %s", append(words, err, said)...)
	}
	return nil
}

func (b *bridges) link(kind, id string) string { return b.mark + kind + id[:7] }

func (b *bridges) GetCapabilities() (*network.CapabilitiesResponse, error) {
	return &network.CapabilitiesResponse{Scope: network.LocalScope}, nil
}

func (b *bridges) CreateNetwork(r *network.CreateNetworkRequest) error {
	b.Lock()
	defer b.Unlock()
	if options, ok := r.Options["com.docker.network.generic"].(map[string]any); ok && options["bad"] != nil {
		return fmt.Errorf("an option is bad")
	}
	b.gateways[r.NetworkID] = r.IPv4Data[0].Gateway
	bridge := b.link("b", r.NetworkID)
	if err := ip("link add %s type bridge", bridge); err != nil {
		return err
	}
	if err := ip("addr add %s dev %s", r.IPv4Data[0].Gateway, bridge); err != nil {
		return err
	}
	return ip("link set %s up", bridge)
}

func (b *bridges) DeleteNetwork(r *network.DeleteNetworkRequest) error {
	b.Lock()
	defer b.Unlock()
	if b.gateways[r.NetworkID] == "" {
		return fmt.Errorf("there is no network %s", r.NetworkID)
	}
	delete(b.gateways, r.NetworkID)
	return ip("link del %s", b.link("b", r.NetworkID))
}

func (b *bridges) CreateEndpoint(*network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	return &network.CreateEndpointResponse{}, nil
}

func (b *bridges) DeleteEndpoint(*network.DeleteEndpointRequest) error { return nil }

func (b *bridges) EndpointInfo(*network.InfoRequest) (*network.InfoResponse, error) {
	return &network.InfoResponse{Value: map[string]string{}}, nil
}

func (b *bridges) Join(r *network.JoinRequest) (*network.JoinResponse, error) {
	b.Lock()
	defer b.Unlock()
	outer, inner := b.link("o", r.EndpointID), b.link("i", r.EndpointID)
	if err := ip("link add %s type veth peer name %s", outer, inner); err != nil {
		return nil, err
	}
	if err := ip("link set %s master %s up", outer, b.link("b", r.NetworkID)); err != nil {
		return nil, err
	}
	gateway, _, _ := strings.Cut(b.gateways[r.NetworkID], "/")
	names := network.InterfaceName{SrcName: inner, DstPrefix: "go"}
	return &network.JoinResponse{InterfaceName: names, Gateway: gateway}, nil
}

func (b *bridges) Leave(r *network.LeaveRequest) error {
	// Its other end may have gone with the container's namespace.
	_ = ip("link del %s", b.link("o", r.EndpointID))
	return nil
}

func (b *bridges) ProgramExternalConnectivity(*network.ProgramExternalConnectivityRequest) error {
	return nil
}

func (b *bridges) RevokeExternalConnectivity(*network.RevokeExternalConnectivityRequest) error {
	return nil
}

// What only clusters ask for.

func (b *bridges) AllocateNetwork(*network.AllocateNetworkRequest) (*network.AllocateNetworkResponse, error) {
	return nil, fmt.Errorf("there is no cluster")
}

func (b *bridges) FreeNetwork(*network.FreeNetworkRequest) error { return nil }

func (b *bridges) DiscoverNew(*network.DiscoveryNotification) error { return nil }

func (b *bridges) DiscoverDelete(*network.DiscoveryNotification) error { return nil }
