// Command kube-proxy is Kubernetes' own kube-proxy, unmodified. It is a separate module,
// because nfguard should not depend on what it requires. The versions in its replace lines
// are those of the release.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() { os.Exit(cli.Run(app.NewProxyCommand())) }
