// Folders as volumes; with the option tmpfs, memory mounted on a folder.

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/docker/go-plugins-helpers/volume"
)

type folders struct {
	sync.Mutex
	root string
	// By name of the volume who has it mounted.
	all map[string]map[string]bool
	// Whose content is memory.
	memory map[string]bool
}

func serveVolumes(listener net.Listener, root string) error {
	f := &folders{root: root, all: map[string]map[string]bool{}, memory: map[string]bool{}}
	// Volumes of an earlier life.
	entries, _ := os.ReadDir(root)
	for _, entry := range entries {
		f.all[entry.Name()] = map[string]bool{}
	}
	return volume.NewHandler(f).Serve(listener)
}

func (f *folders) show(name string) *volume.Volume {
	shown := &volume.Volume{Name: name, Status: map[string]interface{}{"mounts": len(f.all[name])}}
	if len(f.all[name]) > 0 {
		shown.Mountpoint = filepath.Join(f.root, name)
	}
	return shown
}

func (f *folders) known(name string) error {
	if f.all[name] == nil {
		return fmt.Errorf("there is no volume %s", name)
	}
	return nil
}

func (f *folders) Create(r *volume.CreateRequest) error {
	f.Lock()
	defer f.Unlock()
	f.all[r.Name] = map[string]bool{}
	f.memory[r.Name] = r.Options["tmpfs"] != ""
	return os.MkdirAll(filepath.Join(f.root, r.Name), 0o755)
}

func (f *folders) Get(r *volume.GetRequest) (*volume.GetResponse, error) {
	f.Lock()
	defer f.Unlock()
	if err := f.known(r.Name); err != nil {
		return nil, err
	}
	return &volume.GetResponse{Volume: f.show(r.Name)}, nil
}

func (f *folders) List() (*volume.ListResponse, error) {
	f.Lock()
	defer f.Unlock()
	list := []*volume.Volume{}
	for name := range f.all {
		list = append(list, f.show(name))
	}
	return &volume.ListResponse{Volumes: list}, nil
}

func (f *folders) Path(r *volume.PathRequest) (*volume.PathResponse, error) {
	f.Lock()
	defer f.Unlock()
	return &volume.PathResponse{Mountpoint: f.show(r.Name).Mountpoint}, f.known(r.Name)
}

func (f *folders) Mount(r *volume.MountRequest) (*volume.MountResponse, error) {
	f.Lock()
	defer f.Unlock()
	if err := f.known(r.Name); err != nil {
		return nil, err
	}
	at := filepath.Join(f.root, r.Name)
	if f.memory[r.Name] && len(f.all[r.Name]) == 0 {
		if err := syscall.Mount("tmpfs", at, "tmpfs", 0, "size=1m"); err != nil {
			return nil, fmt.Errorf("cannot mount %s: %w", at, err)
		}
	}
	f.all[r.Name][r.ID] = true
	return &volume.MountResponse{Mountpoint: at}, nil
}

func (f *folders) Unmount(r *volume.UnmountRequest) error {
	f.Lock()
	defer f.Unlock()
	if !f.all[r.Name][r.ID] {
		return fmt.Errorf("%s has no mount of %s", r.ID, r.Name)
	}
	delete(f.all[r.Name], r.ID)
	if f.memory[r.Name] && len(f.all[r.Name]) == 0 {
		return syscall.Unmount(filepath.Join(f.root, r.Name), 0)
	}
	return nil
}

func (f *folders) Remove(r *volume.RemoveRequest) error {
	f.Lock()
	defer f.Unlock()
	if len(f.all[r.Name]) > 0 {
		return fmt.Errorf("%s is mounted", r.Name)
	}
	delete(f.all, r.Name)
	return os.RemoveAll(filepath.Join(f.root, r.Name))
}

func (f *folders) Capabilities() *volume.CapabilitiesResponse {
	return &volume.CapabilitiesResponse{Capabilities: volume.Capability{Scope: "local"}}
}
