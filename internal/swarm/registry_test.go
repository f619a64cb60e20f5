package swarm

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"shoal/internal/classic"

	"pgregory.net/rapid"
)

// told is the model: what a member believes after the messages that it was sent, and that no message was senseless.
type told map[netip.AddrPort]bool

func (seen told) hear(t *rapid.T, who *Member, b []byte) {
	for ; len(b) > 0; b = b[classic.MemberSize:] {
		m, err := classic.ParseMember(b[:classic.MemberSize])
		if err != nil {
			t.Fatal(err)
		}
		if m.Addr == who.own.addrPort() {
			t.Fatalf("%v is told of itself", m.Addr)
		}
		if (m.Mode == classic.Add) == seen[m.Addr] {
			t.Fatalf("%v is told %v %v, and believed %v of it", who.own, m.Mode, m.Addr, seen[m.Addr])
		}
		if seen[m.Addr] = m.Mode == classic.Add; !seen[m.Addr] {
			delete(seen, m.Addr)
		}
	}
}

// Any history of joins, leaves and partial reads: a member that has heard all there is believes the truth.
func TestWhatEachMemberHasBeenToldEqualsTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewRegistry()
		var members []*Member
		beliefs := map[*Member]told{}
		pick := func() *Member { return members[rapid.IntRange(0, len(members)-1).Draw(t, "member")] }
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			switch do := rapid.IntRange(0, 9).Draw(t, "do"); {
			case do < 4 || len(members) == 0:
				// Few pairs, so that they come back, and are added by two members at once.
				a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(rapid.IntRange(1, 12).Draw(t, "port")))
				m := r.Join(a)
				members, beliefs[m] = append(members, m), told{}
			case do < 6:
				m := pick()
				r.Leave(m)
				r.Leave(m)
				delete(beliefs, m)
				members = slices.DeleteFunc(members, func(other *Member) bool { return other == m })
			case do < 9:
				m := pick()
				beliefs[m].hear(t, m, r.Next(m, nil, rapid.IntRange(1, 5).Draw(t, "most")))
			default:
				r.forget()
			}
		}
		truth := told{}
		for m := range r.members {
			truth[m.own.addrPort()] = true
		}
		for m, seen := range beliefs {
			seen.hear(t, m, r.Next(m, nil, 1_000_000))
			if r.News(m) {
				t.Fatalf("%v has heard all, and yet there is news", m.own)
			}
			seen[m.own.addrPort()] = true
			if fmt.Sprint(seen) != fmt.Sprint(truth) {
				t.Fatalf("%v believes %v, the truth is %v", m.own, seen, truth)
			}
		}
	})
}

func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 6101)
}

func TestAnEntryLivesWhileAnyoneWhoAddedItLives(t *testing.T) {
	r := NewRegistry()
	watcher := r.Join(addr(1))
	old := r.Join(addr(2))
	if got := r.Next(watcher, nil, 10); len(got) != classic.MemberSize {
		t.Fatalf("told %x of one join", got)
	}
	restarted := r.Join(addr(2)) // the same peer, before its predecessor's connection has timed out
	r.Leave(old)
	if got := r.Next(watcher, nil, 10); len(got) != 0 {
		t.Errorf("told %x of a change that is none", got)
	}
	r.Leave(restarted)
	if got := r.Next(watcher, nil, 10); len(got) != classic.MemberSize || got[0] != byte(classic.Remove) {
		t.Errorf("told %x of the last leave", got)
	}
}

func TestABatchHoldsAtMostWhatWasAskedFor(t *testing.T) {
	r := NewRegistry()
	for n := range 100 {
		r.Join(addr(n))
	}
	m := r.Join(addr(200))
	for _, want := range []int{70, 30, 0} {
		if got := len(r.Next(m, nil, 70)); got != want*classic.MemberSize {
			t.Errorf("%d bytes, want %d messages", got, want)
		}
	}
}

// Ten thousand come and go while one stays and listens: the log does not keep them.
func TestTheLogForgetsThoseWhoAreGone(t *testing.T) {
	r := NewRegistry()
	stays := r.Join(addr(0))
	for n := range 10_000 {
		r.Leave(r.Join(addr(1 + n%5)))
		r.Next(stays, nil, 70)
	}
	if len(r.log) > 4096 {
		t.Errorf("%d records for one member", len(r.log))
	}
}

func BenchmarkJoinTellsAThousand(b *testing.B) {
	r := NewRegistry()
	var members []*Member
	for n := range 1000 {
		members = append(members, r.Join(addr(n)))
	}
	buf := make([]byte, 0, 8192)
	for _, m := range members {
		for r.News(m) {
			buf = r.Next(m, buf[:0], 1000)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		m := r.Join(addr(5000))
		for _, m := range members {
			buf = r.Next(m, buf[:0], 70)
		}
		r.Leave(m)
	}
}
