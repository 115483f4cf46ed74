// The API server of Kubernetes as it is, with its aggregation layer: the peer of the whole front proxy.
//
//	make kube-apiserver
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
