//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"

	"shoal/bench/internal/lab"
)

// bencode writes what BitTorrent's files and trackers are made of: integers, strings, and maps, whose keys come in order.
func bencode(b []byte, v any) []byte {
	switch v := v.(type) {
	case int:
		return fmt.Appendf(b, "i%de", v)
	case string:
		return fmt.Appendf(b, "%d:%s", len(v), v)
	case map[string]any:
		b = append(b, 'd')
		for _, key := range slices.Sorted(maps.Keys(v)) {
			b = bencode(bencode(b, key), v[key])
		}
		return append(b, 'e')
	}
	panic(fmt.Sprintf("flash: no code for %T", v))
}

// torrent describes a content to BitTorrent.
func torrent(announce, name string, piece int, r io.Reader) ([]byte, error) {
	var hashes bytes.Buffer
	size, buf := 0, make([]byte, piece)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			sum := sha1.Sum(buf[:n])
			hashes.Write(sum[:])
			size += n
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	return bencode(nil, map[string]any{
		"announce": announce,
		"info":     map[string]any{"length": size, "name": name, "piece length": piece, "pieces": hashes.String()},
	}), nil
}

// announceEvery is how often the tracker asks to be asked, in seconds.
const announceEvery = 5

// tracker tells the peers of one torrent of each other. It forgets those who say that they stop.
type tracker struct {
	mu    sync.Mutex // guards peers
	peers map[netip.AddrPort]bool
	seed  func() // called when a peer says that it has all
}

// announce takes what a peer at an address says, and returns the answer to it.
func (t *tracker) announce(from netip.Addr, q url.Values) ([]byte, error) {
	port, err := strconv.ParseUint(q.Get("port"), 10, 16)
	if err != nil || port == 0 || !from.Is4() {
		return nil, fmt.Errorf("peer %v at port %q", from, q.Get("port"))
	}
	self := netip.AddrPortFrom(from, uint16(port))
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.Get("event") == "stopped" {
		delete(t.peers, self)
	} else {
		t.peers[self] = true
	}
	if q.Get("left") == "0" {
		t.seed()
	}
	var compact []byte
	for _, p := range slices.SortedFunc(maps.Keys(t.peers), netip.AddrPort.Compare) {
		if p != self {
			compact = append(compact, p.Addr().AsSlice()...)
			compact = append(compact, byte(p.Port()>>8), byte(p.Port()))
		}
	}
	return bencode(nil, map[string]any{"interval": announceEvery, "min interval": announceEvery, "peers": string(compact)}), nil
}

func (t *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil {
		var answer []byte
		if answer, err = t.announce(from.Addr().Unmap(), r.URL.Query()); err == nil {
			_, _ = w.Write(answer) // a peer that is gone asks again
			return
		}
	}
	http.Error(w, err.Error(), http.StatusBadRequest)
}

// runTracker is a process of its own, in the server's namespace. It prints the event "listening", and "seed" when the first peer has all.
func runTracker(ctx context.Context, addr string) error {
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	tell := func(t string) { _ = json.NewEncoder(os.Stdout).Encode(lab.Event{T: t, Addr: addr}) } // nobody reads: then nobody waits either
	tell("listening")
	t := &tracker{peers: make(map[netip.AddrPort]bool), seed: sync.OnceFunc(func() { tell("seed") })}
	srv := &http.Server{Handler: t}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
