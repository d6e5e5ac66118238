// Plugins for the tests, written with Docker's own helpers: plugins KIND SOCKET ARGUMENT.
package main

import (
	"log"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: plugins KIND SOCKET ARGUMENT")
	}
	listener, err := net.Listen("unix", os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	kinds := map[string]func(net.Listener, string) error{
		"volume":  serveVolumes,
		"network": serveNetworks,
		"ipam":    serveAddresses,
	}
	serve := kinds[os.Args[1]]
	if serve == nil {
		log.Fatalf("there is no plugin of kind %s", os.Args[1])
	}
	log.Fatal(serve(listener, os.Args[3]))
}
