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
