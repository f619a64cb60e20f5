package swarm

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/wire"
)

// Of a member and a server that are idle the member pings, every seven seconds.
func TestOfAnIdleMemberAndItsServerOnePings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		member, server := newV2conn(near, nil), newV2conn(far, nil)
		server.every = v2Patience
		var g sync.WaitGroup
		pings := make([]int, 2)
		for i, c := range []*v2conn{member, server} {
			g.Go(func() { _ = c.write(ctx) })
			g.Go(func() {
				for {
					m, err := c.receive()
					if err != nil {
						return
					}
					if ping, is := m.(*wire.Ping); is {
						pings[1-i]++
						c.send(&wire.Pong{Number: ping.Number})
					}
				}
			})
		}
		time.Sleep(10*time.Minute + time.Second)
		cancel()
		synctest.Wait()
		near.Close()
		far.Close()
		g.Wait()
		if want := int(10 * time.Minute / v2PingEvery); pings[0] != want || pings[1] > 0 {
			t.Errorf("the member pings %d times, the server %d, want %d and none", pings[0], pings[1], want)
		}
	})
}

// A ping goes out when nothing has come for a while; what comes makes one needless.
func TestWhoIsHeardIsNotPinged(t *testing.T) {
	for name, c := range map[string]struct {
		every time.Duration // that the other side says something
		pings int           // in a minute and a half a second
	}{
		"it says something in time": {v2PingEvery - time.Second, 0},
		"it says nothing":           {time.Hour, int(time.Minute / v2PingEvery)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				ctx, cancel := context.WithCancel(t.Context())
				c1, c2 := newV2conn(near, nil), newV2conn(far, nil)
				pings := 0
				var g sync.WaitGroup
				g.Go(func() { _ = c1.write(ctx) })
				g.Go(func() {
					for {
						if _, err := c1.receive(); err != nil {
							return
						}
					}
				})
				g.Go(func() {
					for {
						m, err := c2.receive()
						if err != nil {
							return
						}
						if _, is := m.(*wire.Ping); is {
							pings++
						}
					}
				})
				for end := time.Now().Add(time.Minute + time.Second/2); time.Now().Before(end); {
					time.Sleep(min(c.every, time.Until(end)))
					if time.Now().Before(end) {
						_ = c2.now(&wire.Pong{Number: 7})
					}
				}
				cancel()
				synctest.Wait()
				near.Close()
				far.Close()
				g.Wait()
				if pings != c.pings {
					t.Errorf("%d pings, want %d", pings, c.pings)
				}
			})
		})
	}
}
