//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shoal/bench/internal/lab"
)

// side is a network namespace with a tunnel. One thread is in it, and starts what is to run there.
type side struct {
	work chan func()
	done sync.WaitGroup
	tun  *tun
}

// tun is a tunnel device, of which this program has the far end.
type tun struct {
	*os.File
	in atomic.Int64 // bytes that it was given
}

func (t *tun) came() int64 { return t.in.Load() }

func newSide(ctx context.Context, own, other string, o options) (*side, error) {
	s := &side{work: make(chan func())}
	made := make(chan error)
	s.done.Go(func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.tun, err = openTun()
		}
		made <- err
		for f := range s.work {
			f()
		}
	})
	if err := <-made; err != nil {
		s.close()
		return nil, fmt.Errorf("make a namespace with a tunnel: %w", err)
	}
	most := int(3 * o.rate * 1e6 / 8 * o.delay.Seconds())
	script := fmt.Sprintf(`set -e
ip link set lo up
ip addr add %s peer %s dev far0
ip link set far0 mtu %d txqueuelen 1000 up
sysctl -qw net.ipv4.tcp_rmem="4096 131072 %d" net.ipv4.tcp_wmem="4096 65536 %d"`, own, other, o.mtu, max(most, 6<<20), max(most, 4<<20))
	if out, err := s.run(exec.CommandContext(ctx, "sh", "-c", script)); err != nil {
		s.close()
		return nil, fmt.Errorf("set up the namespace: %w: %s", err, out)
	}
	return s, nil
}

func openTun() (*tun, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq("far0")
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &tun{File: os.NewFile(uintptr(fd), "far0")}, nil
}

// do runs f in the namespace's thread. What f starts is in the namespace.
func (s *side) do(f func()) {
	done := make(chan struct{})
	s.work <- func() { f(); close(done) }
	<-done
}

func (s *side) run(c *exec.Cmd) (string, error) {
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	var err error
	s.do(func() { err = c.Start() })
	if err == nil {
		err = c.Wait()
	}
	return out.String(), err
}

func (s *side) start(ctx context.Context, dir, path string, args ...string) (p *lab.Process, err error) {
	s.do(func() { p, err = lab.Start(ctx, dir, path, args...) })
	return p, err
}

func (s *side) close() {
	if s.tun != nil {
		s.tun.Close()
	}
	close(s.work)
	s.done.Wait()
}

// lane carries packets in one direction.
type lane struct {
	from, to *tun
	rate     float64 // bytes per second
	delay    time.Duration
}

// queueTime is how much may wait for the lane.
const queueTime = 100 * time.Millisecond

type packet struct {
	b   []byte
	due time.Time
}

// carry takes packets until the context or a tunnel ends.
func (l *lane) carry(ctx context.Context) {
	under := make(chan packet, 1<<16)
	var g sync.WaitGroup
	g.Go(func() {
		defer close(under)
		free := time.Now() // when the lane has sent what was given to it
		for buf := make([]byte, 1<<16); ; {
			n, err := l.from.Read(buf)
			if err != nil {
				return
			}
			now := time.Now()
			if free.Before(now) {
				free = now
			}
			if free.Sub(now) > queueTime {
				continue // the queue is full
			}
			free = free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
			select {
			case under <- packet{append([]byte(nil), buf[:n]...), free.Add(l.delay)}:
			case <-ctx.Done():
				return
			}
		}
	})
	stop := context.AfterFunc(ctx, func() { l.from.Close() })
	defer stop()
	for p := range under {
		if wait := time.Until(p.due); wait > 0 && lab.Sleep(ctx, wait) != nil {
			break
		}
		if n, err := l.to.Write(p.b); err == nil {
			l.to.in.Add(int64(n))
		}
	}
	l.from.Close()
	for range under { // what is left
	}
	g.Wait()
}
