// Command serve answers kube-proxy like the API server of a cluster in which nothing
// changes: serve ADDRESS FILE, where the file has a list of upstream.Service in JSON.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/nfguard/nfguard/test/kubeproxy/upstream"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: serve ADDRESS FILE")
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var services []upstream.Service
	if err := json.Unmarshal(text, &services); err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	server := &http.Server{Addr: args[0], Handler: upstream.Handler(services), ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}
