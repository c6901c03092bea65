//go:build tools

// Package tools names the programs this module exists for, so that go.sum covers them.
package tools

import (
	_ "go.etcd.io/etcd/etcdctl/v3"
	_ "go.etcd.io/etcd/server/v3"
)
