//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"shoal/bench/internal/lab"
	"shoal/internal/classic"
)

// raw connects from the address of a number.
func raw(ctx context.Context, number int, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source(number))}, Timeout: 30 * time.Second}
	return d.DialContext(ctx, "tcp4", to)
}

// message is the one message of the classic swarm: mode, the IPv4 address of a number, a port.
func message(mode byte, number int, port uint16) []byte {
	return binary.BigEndian.AppendUint16(append([]byte{mode}, net.ParseIP(source(number)).To4()...), port)
}

const (
	honestPort  = 7001
	flapperPort = 7002
)

// flapClassic is flap with classic members: the honest one says add and remove of its port, the flapper of another.
func (b *bench) flapClassic(ctx context.Context) error {
	s, err := b.server(ctx)
	if err != nil {
		return err
	}
	defer s.Stop()
	heard := make(chan time.Time, 64*flapMembers)
	var conns []net.Conn
	var running sync.WaitGroup
	var over atomic.Bool
	defer func() {
		over.Store(true)
		for _, c := range conns {
			c.Close()
		}
		running.Wait()
	}()
	var lost atomic.Int64
	for i := range flapMembers {
		c, err := raw(ctx, i, s.addr)
		if err != nil {
			return err
		}
		conns = append(conns, c)
		if _, err := c.Write(message(1, i, 7000)); err != nil {
			return err
		}
		running.Go(func() {
			var m [7]byte
			for {
				if _, err := io.ReadFull(c, m[:]); err != nil {
					if !over.Load() {
						lost.Add(1)
					}
					return
				}
				if m[0] == 1 && binary.BigEndian.Uint16(m[5:]) == honestPort {
					heard <- time.Now()
				}
			}
		})
	}
	if err := lab.Sleep(ctx, 2*time.Second); err != nil { // all have been told of all
		return err
	}
	for _, name := range []string{"alone", "beside it"} {
		var changes atomic.Int64
		stop := func() {}
		if name != "alone" {
			stop = flapper(ctx, s.addr, &changes)
		}
		began := time.Now()
		var h net.Conn
		waits, err := news(ctx, heard, 100, flapMembers, func() (err error) {
			if h, err = raw(ctx, flapMembers, s.addr); err == nil {
				_, err = h.Write(message(1, flapMembers, honestPort))
			}
			return err
		}, func() error { return h.Close() })
		took := time.Since(began)
		stop()
		if err != nil {
			return fmt.Errorf("classic, %s: %w", name, err)
		}
		print("classic", name, waits, float64(changes.Load())/took.Seconds())
	}
	if n := lost.Load(); n > 0 {
		return fmt.Errorf("%d members lost their server", n)
	}
	return nil
}

// flapper says add and remove as fast as it is let, and comes back when it is cut off.
func flapper(ctx context.Context, addr string, changes *atomic.Int64) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	burst := append(message(1, flapMembers+1, flapperPort), message(0, flapMembers+1, flapperPort)...)
	wg.Go(func() {
		for ctx.Err() == nil {
			c, err := raw(ctx, flapMembers+1, addr)
			if err != nil {
				_ = lab.Sleep(ctx, 10*time.Millisecond)
				continue
			}
			end := context.AfterFunc(ctx, func() { c.Close() })
			go func() { _, _ = io.Copy(io.Discard, c) }() // ends with c
			for err == nil {
				if _, err = c.Write(burst); err == nil {
					changes.Add(2)
				}
			}
			end()
			c.Close()
		}
	})
	return func() { cancel(); wg.Wait() }
}

// stuck measures what connections cost that never say what they are.
func stuck(ctx context.Context, b *bench) error {
	fmt.Printf("\n### %d stuck connections\n\n| what they have sent | server MiB before | the most | after they were cut off | KiB each at the most | an honest member got in after |\n| --- | --- | --- | --- | --- | --- |\n", b.stuck)
	for _, c := range []struct {
		name string
		says []byte
	}{{"nothing", nil}, {"three bytes of a classic message", []byte{1, 127, 0}}, {"the beginning of a ClientHello", append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 200)...)}} {
		if err := b.stuckRow(ctx, c.name, c.says); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

func (b *bench) stuckRow(ctx context.Context, name string, says []byte) error {
	s, err := b.server(ctx)
	if err != nil {
		return err
	}
	defer s.Stop()
	w, err := b.newSwarm(ctx, s, 1)
	if err != nil {
		return err
	}
	before, err := lab.Memory(s.PID())
	if err != nil {
		return err
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for i := range b.stuck {
		c, err := raw(ctx, i+1, s.addr)
		if err != nil {
			return err
		}
		conns = append(conns, c)
		_, _ = c.Write(says) // it may be cut off already
	}
	most, err := lab.Memory(s.PID())
	if err != nil {
		return err
	}
	began := time.Now()
	m, err := w.enter(ctx, 0, nil)
	if err != nil {
		return fmt.Errorf("nobody honest gets in: %w", err)
	}
	took := time.Since(began)
	w.members = append(w.members, m)
	if err := lab.Sleep(ctx, b.settle); err != nil {
		return err
	}
	after, err := lab.Memory(s.PID())
	if err != nil {
		return err
	}
	fmt.Printf("| %s | %.1f | %.1f | %.1f | %.2f | %v |\n", name, mib(before.Now), mib(max(most.Now, after.Peak)), mib(after.Now),
		float64(max(most.Now, after.Peak)-before.Now)/1024/float64(b.stuck), took.Round(time.Millisecond))
	return w.close()
}

const (
	slowName    = "slow.img"
	slowFile    = 256 << 20
	readEach    = 4 << 10 // bytes a second of a slow reader
	slowPatient = 5 * time.Minute
)

// slow measures a fast reader beside slow ones.
func slow(ctx context.Context, b *bench) error {
	s, err := b.server(ctx)
	if err != nil {
		return err
	}
	defer s.Stop()
	path := filepath.Join(b.dir, slowName)
	if err := os.WriteFile(path, make([]byte, slowFile), 0o644); err != nil {
		return err
	}
	at := fmt.Sprintf("127.%d.1.1", 150+os.Getpid()%50)
	p, err := lab.Start(ctx, b.dir, b.path, "share", path, "--classic", "--json", "--server", s.addr, "--state", filepath.Join(b.dir, "sharer"), "--listen", at+":0", "--advertise", at)
	if err != nil {
		return err
	}
	defer p.Stop()
	e, err := p.Await("sharing")
	if err != nil {
		return err
	}
	fmt.Printf("\n### A fast reader of %d MiB beside slow ones\n\n| slow readers | of them served | fast reader, s | MiB/s | MiB resident of the sharer | KiB a slow reader |\n| --- | --- | --- | --- | --- | --- |\n", slowFile>>20)
	var alone int64
	for _, n := range []int{0, b.slow, 2 * b.slow} {
		rss, err := b.slowRow(ctx, p, e.Addr, n, alone)
		if err != nil {
			return fmt.Errorf("%d slow readers: %w", n, err)
		}
		if n == 0 {
			alone = rss
		}
	}
	return nil
}

func (b *bench) slowRow(ctx context.Context, p *lab.Process, addr string, n int, alone int64) (rss int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, slowPatient)
	defer cancel()
	var served atomic.Int64
	var running sync.WaitGroup
	for i := range n {
		c, err := raw(ctx, i+1, addr)
		if err != nil {
			return 0, err
		}
		_ = c.(*net.TCPConn).SetReadBuffer(readEach) // the rest stays with the one who gives
		context.AfterFunc(ctx, func() { c.Close() })
		running.Go(func() {
			defer c.Close()
			if ask(c) != nil {
				return
			}
			buf := make([]byte, readEach)
			for first := true; ; first = false {
				if _, err := io.ReadFull(c, buf); err != nil {
					return
				}
				if first {
					served.Add(1)
				}
				if lab.Sleep(ctx, time.Second) != nil {
					return
				}
			}
		})
	}
	if err := lab.Sleep(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	c, err := raw(ctx, n+1, addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	began := time.Now()
	if err := ask(c); err != nil {
		return 0, err
	}
	want := int64(slowFile) + classic.HeaderSize*((slowFile+classic.ChunkSize-1)/classic.ChunkSize)
	if got, err := io.CopyN(io.Discard, c, want); err != nil {
		return 0, fmt.Errorf("the fast reader got %d of %d bytes: %w", got, want, err)
	}
	took := time.Since(began)
	u, err := lab.Memory(p.PID())
	if err != nil {
		return 0, err
	}
	each := ""
	if n > 0 {
		each = fmt.Sprintf("%.1f", float64(u.Now-alone)/1024/float64(n))
	}
	fmt.Printf("| %d | %d | %.2f | %.0f | %.1f | %s |\n", n, served.Load(), took.Seconds(), slowFile/took.Seconds()/(1<<20), mib(u.Now), each)
	cancel()
	running.Wait()
	return u.Now, nil
}

// ask asks for the file, and then for all its chunks.
func ask(c net.Conn) error {
	if _, err := c.Write(classic.FileRequest{Name: slowName}.Append(nil)); err != nil {
		return err
	}
	var answer [classic.HeaderSize]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	h, err := classic.ParseHeader(answer[:])
	if err != nil {
		return err
	}
	has, ok := h.(classic.FileResponse)
	if !ok || has.Chunks == 0 {
		return fmt.Errorf("it says %+v", h)
	}
	_, err = c.Write(classic.ChunkRequest{Name: slowName, Last: has.Chunks - 1}.Append(nil))
	return err
}
