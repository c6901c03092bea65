//go:build tools

// Package tools names the program this module exists for, so that go.sum covers it.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
