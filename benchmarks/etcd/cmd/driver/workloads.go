package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	keysOfOneWorker = 16
	watchers        = 1000
	sessionSeconds  = 15
	attemptLimit    = 2 * time.Second
)

func sessions(clients []*clientv3.Client) ([]*concurrency.Session, error) {
	opened := make([]*concurrency.Session, len(clients))
	for i, client := range clients {
		session, err := concurrency.NewSession(client, concurrency.WithTTL(sessionSeconds))
		if err != nil {
			return nil, err
		}
		opened[i] = session
	}
	return opened, nil
}

// locks: each worker acquires and releases its own lock in a loop.
func locks(s settings, clients []*clientv3.Client) (result, error) {
	opened, err := sessions(clients)
	if err != nil {
		return result{}, err
	}
	mutexes := make([]*concurrency.Mutex, s.clients)
	for i := range mutexes {
		mutexes[i] = concurrency.NewMutex(opened[i%len(opened)], fmt.Sprintf("/bench/locks/%d", i))
	}
	ctx := context.Background()
	return workers(s, func(worker int, m *samples) error {
		started := time.Now()
		if err := mutexes[worker].Lock(ctx); err != nil {
			return err
		}
		took := time.Since(started)
		if err := mutexes[worker].Unlock(ctx); err != nil {
			return err
		}
		m.add(started, took, 2)
		return nil
	})
}

// keys: each worker puts, or reads linearizably, one of its own keys in a loop.
func keys(s settings, clients []*clientv3.Client) (result, error) {
	ctx := context.Background()
	value := strings.Repeat("v", s.valueSize)
	name := func(worker int) string { return fmt.Sprintf("/bench/keys/%d/%d", worker, rand.IntN(keysOfOneWorker)) }
	if s.workload == "put" {
		return workers(s, func(worker int, m *samples) error {
			started := time.Now()
			_, err := clients[worker%len(clients)].Put(ctx, name(worker), value)
			m.add(started, time.Since(started), 1)
			return err
		})
	}
	for worker := range s.clients {
		for k := range keysOfOneWorker {
			if _, err := clients[0].Put(ctx, fmt.Sprintf("/bench/keys/%d/%d", worker, k), value); err != nil {
				return result{}, err
			}
		}
	}
	return workers(s, func(worker int, m *samples) error {
		started := time.Now()
		_, err := clients[worker%len(clients)].Get(ctx, name(worker))
		m.add(started, time.Since(started), 1)
		return err
	})
}

// watch: 1,000 watchers of one key; the next write goes out once all have seen the last one.
func watch(s settings, clients []*clientv3.Client) (result, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen := make(chan struct{}, watchers)
	var writing sync.RWMutex
	var started time.Time
	all := make([]samples, watchers)
	for i := range watchers {
		events := clients[i%len(clients)].Watch(clientv3.WithRequireLeader(ctx), "/bench/watched", clientv3.WithCreatedNotify())
		go func() {
			for answer := range events {
				for range answer.Events {
					writing.RLock()
					all[i].add(started, time.Since(started), 1)
					writing.RUnlock()
					seen <- struct{}{}
				}
				if answer.Created {
					seen <- struct{}{}
				}
			}
		}()
	}
	for range watchers {
		<-seen
	}
	from := time.Now().Add(time.Second)
	until := from.Add(time.Duration(s.seconds * float64(time.Second)))
	for i := range all {
		all[i].from, all[i].until = from, until
	}
	value := strings.Repeat("v", s.valueSize)
	for time.Now().Before(until) {
		writing.Lock()
		started = time.Now()
		writing.Unlock()
		if _, err := clients[0].Put(ctx, "/bench/watched", value); err != nil {
			return result{}, err
		}
		for range watchers {
			<-seen
		}
	}
	return summary(s, all, s.seconds), nil
}

// handoff: all workers want one lock; measured from the holder's release to the next holder's return from Lock.
// etcd's Mutex is one place in the queue per session, so each worker has its own session.
func handoff(s settings, clients []*clientv3.Client) (result, error) {
	spread := make([]*clientv3.Client, s.clients)
	for i := range spread {
		spread[i] = clients[i%len(clients)]
	}
	opened, err := sessions(spread)
	if err != nil {
		return result{}, err
	}
	ctx := context.Background()
	var released time.Time // written and read by the holder only
	return workers(s, func(worker int, m *samples) error {
		mutex := concurrency.NewMutex(opened[worker], "/bench/handoff")
		if err := mutex.Lock(ctx); err != nil {
			return err
		}
		now := time.Now()
		if !released.IsZero() {
			m.add(released, now.Sub(released), 1)
		}
		released = time.Now()
		return mutex.Unlock(ctx)
	})
}

// failover: workers put all the time, trying again at once; whoever started this kills the leader meanwhile. The gap is
// the longest time between two successful writes of any worker.
func failover(s settings, clients []*clientv3.Client) (result, error) {
	var guard sync.Mutex
	last := time.Now()
	var gap time.Duration
	out, err := workers(s, func(worker int, m *samples) error {
		ctx, cancel := context.WithTimeout(context.Background(), attemptLimit)
		defer cancel()
		started := time.Now()
		if _, err := clients[worker%len(clients)].Put(ctx, fmt.Sprintf("/bench/failover/%d", worker), "v"); err != nil {
			m.errors++
			time.Sleep(5 * time.Millisecond)
			return nil
		}
		now := time.Now()
		m.add(started, now.Sub(started), 1)
		guard.Lock()
		if started.After(m.from) && now.Sub(last) > gap {
			gap = now.Sub(last)
		}
		last = now
		guard.Unlock()
		return nil
	})
	out.GapMs = float64(gap) / float64(time.Millisecond)
	return out, err
}

// leader: no workload; answers with the address of the member that leads, once all three answer.
func leader(s settings, client *clientv3.Client) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), attemptLimit)
	defer cancel()
	found := ""
	for _, endpoint := range s.endpoints {
		answer, err := client.Status(ctx, endpoint)
		if err != nil {
			return result{}, err
		}
		if answer.Header.MemberId == answer.Leader {
			found = endpoint
		}
	}
	if found == "" {
		return result{}, fmt.Errorf("no leader yet")
	}
	return result{Workload: found}, nil
}
