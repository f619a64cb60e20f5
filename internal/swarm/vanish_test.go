package swarm

import (
	"io"
	"net"
	"os"
	"testing"
)

// Peers that end with a reset, wherever in the conversation, leave neither a descriptor, nor a place in the books, nor a log that grows.
func TestPeersThatVanishLeaveNothingBehind(t *testing.T) {
	s, addr := start(t, ServerConfig{JoinBurst: 1 << 20})
	stays := dial(t, addr)
	stays.says("01 7f000001 17d6")
	go func() { _, _ = io.Copy(io.Discard, stays) }()
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return 0 // no Linux: the books must do
		}
		return len(fds)
	}
	cycle := func(n int) {
		conn, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_, _ = conn.Write([]byte{1, 127, 0, 0, 1, byte(n >> 8), byte(n) | 1, 0, 127}[:n%10])
		conn.Close()
	}
	settled := func() bool { return s.Stats().Connections == 1 && s.Stats().Members == 1 }
	for n := range 100 {
		cycle(n)
	}
	eventually(t, "all are gone", settled)
	before := open()
	for n := range 3000 {
		cycle(n)
	}
	eventually(t, "all are gone again", settled)
	eventually(t, "no descriptor is left", func() bool { return open() <= before })
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.registry.log) > 4096 || len(s.perAddress) != 1 || len(s.perNetwork) != 1 {
		t.Errorf("left: %d records, %d addresses", len(s.registry.log), len(s.perAddress))
	}
}
