// Command kube-proxy is Kubernetes' own, unchanged. It is a module of its own,
// because what it requires is not for nfguard; the versions that its replace
// lines name are those that the release was made of.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() { os.Exit(cli.Run(app.NewProxyCommand())) }
