// Addresses of one subnet.

package main

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/docker/go-plugins-helpers/ipam"
)

type addresses struct {
	sync.Mutex
	subnet netip.Prefix
	taken  map[netip.Addr]bool
}

func serveAddresses(listener net.Listener, subnet string) error {
	parsed, err := netip.ParsePrefix(subnet)
	if err != nil {
		return err
	}
	return ipam.NewHandler(&addresses{subnet: parsed, taken: map[netip.Addr]bool{}}).Serve(listener)
}

func (a *addresses) GetCapabilities() (*ipam.CapabilitiesResponse, error) {
	return &ipam.CapabilitiesResponse{}, nil
}

func (a *addresses) GetDefaultAddressSpaces() (*ipam.AddressSpacesResponse, error) {
	return &ipam.AddressSpacesResponse{LocalDefaultAddressSpace: "local", GlobalDefaultAddressSpace: "global"}, nil
}

func (a *addresses) RequestPool(*ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	return &ipam.RequestPoolResponse{PoolID: "one", Pool: a.subnet.String()}, nil
}

func (a *addresses) ReleasePool(*ipam.ReleasePoolRequest) error { return nil }

func (a *addresses) RequestAddress(r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	a.Lock()
	defer a.Unlock()
	wish, _ := netip.ParseAddr(r.Address)
	for next := a.subnet.Addr().Next(); a.subnet.Contains(next); next = next.Next() {
		if !a.taken[next] && (!wish.IsValid() || wish == next) {
			a.taken[next] = true
			return &ipam.RequestAddressResponse{Address: fmt.Sprintf("%s/%d", next, a.subnet.Bits())}, nil
		}
	}
	return nil, fmt.Errorf("no address is left")
}

func (a *addresses) ReleaseAddress(r *ipam.ReleaseAddressRequest) error {
	a.Lock()
	defer a.Unlock()
	address, err := netip.ParseAddr(r.Address)
	delete(a.taken, address)
	return err
}
