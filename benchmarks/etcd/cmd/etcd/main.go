// Command etcd is the etcd server of the newest release, built from its own module so that the comparison needs no
// package of the distribution.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
