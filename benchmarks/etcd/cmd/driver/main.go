// Command driver runs one workload against an etcd cluster with etcd's own Go client and prints one JSON object.
//
// Its workloads, counts and clocks are those of `lockmaster bench`, so that the two can be put side by side: a lock
// operation is one acquire or one release; latency is that of the acquire; "clients" share `connections` clients of
// clientv3, each with one session, as Lockmaster's tasks share its clients.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type settings struct {
	endpoints   []string
	workload    string
	clients     int
	connections int
	seconds     float64
	valueSize   int
	ca          string
}

type result struct {
	Workload   string             `json:"workload"`
	Clients    int                `json:"clients"`
	Seconds    float64            `json:"seconds"`
	Operations int                `json:"operations"`
	PerSecond  float64            `json:"operations_per_second"`
	Latency    map[string]float64 `json:"latency_ms"`
	GapMs      float64            `json:"gap_ms,omitempty"`
	Errors     int                `json:"errors"`
}

func main() {
	var s settings
	var endpoints string
	flag.StringVar(&endpoints, "endpoints", "127.0.0.1:2379", "host:port, comma-separated")
	flag.StringVar(&s.workload, "workload", "locks", "locks, put, get, watch, handoff, failover or leader")
	flag.IntVar(&s.clients, "clients", 1, "concurrent workers")
	flag.IntVar(&s.connections, "connections", 1, "clientv3 clients they share")
	flag.Float64Var(&s.seconds, "seconds", 5, "measured time after one second of warm-up")
	flag.IntVar(&s.valueSize, "value-size", 256, "bytes of a value")
	flag.StringVar(&s.ca, "ca", "", "PEM file of the authority; empty = plaintext")
	flag.Parse()
	s.endpoints = strings.Split(endpoints, ",")
	if s.connections > s.clients {
		s.connections = s.clients
	}
	out, err := run(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		os.Exit(1)
	}
}

func run(s settings) (result, error) {
	clients, err := connect(s)
	if err != nil {
		return result{}, err
	}
	defer func() {
		for _, client := range clients {
			_ = client.Close()
		}
	}()
	switch s.workload {
	case "locks":
		return locks(s, clients)
	case "put", "get":
		return keys(s, clients)
	case "watch":
		return watch(s, clients)
	case "handoff":
		return handoff(s, clients)
	case "failover":
		return failover(s, clients)
	case "leader":
		return leader(s, clients[0])
	}
	return result{}, fmt.Errorf("no workload %q", s.workload)
}

func connect(s settings) ([]*clientv3.Client, error) {
	var security *tls.Config
	if s.ca != "" {
		pem, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", s.ca)
		}
		security = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	clients := make([]*clientv3.Client, s.connections)
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{Endpoints: s.endpoints, TLS: security, DialTimeout: 5 * time.Second})
		if err != nil {
			return nil, err
		}
		clients[i] = client
	}
	return clients, nil
}

// samples collects one worker's latencies after the warm-up.
type samples struct {
	from, until time.Time
	latencies   []time.Duration
	operations  int
	errors      int
}

func (m *samples) add(started time.Time, took time.Duration, operations int) {
	if started.After(m.from) && started.Before(m.until) {
		m.latencies = append(m.latencies, took)
		m.operations += operations
	}
}

// workers runs `work` in s.clients goroutines until the measured time is over, and merges what they measured.
func workers(s settings, work func(worker int, m *samples) error) (result, error) {
	from := time.Now().Add(time.Second)
	until := from.Add(time.Duration(s.seconds * float64(time.Second)))
	all := make([]samples, s.clients)
	failures := make([]error, s.clients)
	var group sync.WaitGroup
	for i := range all {
		all[i].from, all[i].until = from, until
		group.Add(1)
		go func() {
			defer group.Done()
			for time.Now().Before(until) {
				if failures[i] = work(i, &all[i]); failures[i] != nil {
					return
				}
			}
		}()
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			return result{}, err
		}
	}
	return summary(s, all, s.seconds), nil
}

func summary(s settings, all []samples, seconds float64) result {
	out := result{Workload: s.workload, Clients: s.clients, Seconds: seconds}
	var merged []time.Duration
	for i := range all {
		merged = append(merged, all[i].latencies...)
		out.Operations += all[i].operations
		out.Errors += all[i].errors
	}
	sort.Slice(merged, func(a, b int) bool { return merged[a] < merged[b] })
	out.PerSecond = float64(out.Operations) / seconds
	out.Latency = map[string]float64{
		"p50": quantile(merged, 0.50), "p90": quantile(merged, 0.90), "p99": quantile(merged, 0.99), "max": quantile(merged, 1),
	}
	return out
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(q*float64(len(sorted)-1))]) / float64(time.Millisecond)
}
