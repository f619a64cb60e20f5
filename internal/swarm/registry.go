package swarm

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"shoal/internal/classic"
)

// pair is an entry of the swarm: an IPv4 address and a port, as the wire has them. It is six bytes rather than a
// netip.AddrPort because a swarm of thousands keeps one for every change that somebody has not been told of yet.
type pair [6]byte

func pairOf(a netip.AddrPort) pair {
	p := pair(append(a.Addr().AsSlice(), 0, 0))
	binary.BigEndian.PutUint16(p[4:], a.Port())
	return p
}

func (p pair) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[:4])), binary.BigEndian.Uint16(p[4:]))
}

// Registry is the table of who is in the swarm and of what each member has been told of it. It is pure: it knows
// addresses and members, no connections and no time.
//
// The table is a log of changes that all members share, so that a member costs the registry three numbers, however
// many changes it still has to be told of. A member reads the log in windows. A window ends where the log ended when the
// member came to its beginning; within it, an entry that came and went is passed over. The rule that makes this exact:
//
//   - an entry that came within the window is told, unless it also went within the window;
//   - an entry that went within the window is told, unless it also came within the window.
//
// A new member's first window begins at the beginning of the log: it holds the whole swarm, without what is gone.
// Records that nobody needs any more are dropped when they are the larger part of the log.
type Registry struct {
	log     []record // by rising seq, with gaps
	next    uint64   // seq of the next record
	garbage int      // records in log that a member who joins now would pass over
	entries map[pair]*entry
	members map[*Member]struct{}
}

// record is one change: an entry came or went.
type record struct {
	seq   uint64
	other uint64 // of an entry that came: the seq at which it went, 0 while it is there; of one that went: where it came
	pair  pair
	mode  classic.Mode
}

// entry is a pair that is in the swarm.
type entry struct {
	owners int    // members that added it: it goes with the last one
	came   uint64 // seq of its record
}

// Member is one who has added an entry, and is told of all others.
type Member struct {
	own pair
	// The window is [from, until); what lies before pos has been told.
	from, pos, until uint64
}

// NewRegistry makes an empty swarm.
func NewRegistry() *Registry {
	return &Registry{entries: make(map[pair]*entry), members: make(map[*Member]struct{}), next: 1}
}

// Join adds an entry at a, which must pass [classic.CheckAddr], or one more owner to the entry that is there already.
func (r *Registry) Join(a netip.AddrPort) *Member {
	m := &Member{own: pairOf(a), until: r.next}
	r.members[m] = struct{}{}
	e := r.entries[m.own]
	if e == nil {
		e = &entry{came: r.append(m.own, classic.Add, 0)}
		r.entries[m.own] = e
	}
	e.owners++
	return m
}

// Leave takes the member out of the swarm, and its entry with it unless another member has added it too. To leave
// twice does nothing.
func (r *Registry) Leave(m *Member) {
	if _, here := r.members[m]; !here {
		return
	}
	delete(r.members, m)
	e := r.entries[m.own]
	if e.owners--; e.owners > 0 {
		return
	}
	delete(r.entries, m.own)
	went := r.append(m.own, classic.Remove, e.came)
	r.log[r.index(e.came)].other = went
	r.garbage += 2
	r.compact()
}

// Next writes the messages that the member is to be told next to the end of b, at most the given number of them, and
// counts them as told. It adds nothing when there is no news.
func (r *Registry) Next(m *Member, b []byte, most int) []byte {
	for most > 0 {
		if m.pos == m.until {
			if m.until == r.next {
				return b
			}
			m.from, m.until = m.until, r.next
		}
		i := r.index(m.pos)
		for ; i < len(r.log) && r.log[i].seq < m.until && most > 0; i++ {
			rec := &r.log[i]
			m.pos = rec.seq + 1
			if rec.pair == m.own || r.passedOver(m, rec) {
				continue
			}
			b = classic.Member{Mode: rec.mode, Addr: rec.pair.addrPort()}.Append(b)
			most--
		}
		if i == len(r.log) || r.log[i].seq >= m.until {
			m.pos = m.until
		}
	}
	return b
}

// passedOver says whether both ends of an entry's stay lie within the member's window.
func (r *Registry) passedOver(m *Member, rec *record) bool {
	if rec.mode == classic.Add {
		return rec.other != 0 && rec.other < m.until
	}
	return rec.other >= m.from
}

// News says whether the member may have something to be told.
func (r *Registry) News(m *Member) bool { return m.pos < r.next }

// Behind returns how many changes lie behind the member's window: those that came since it last caught up, not those of
// the swarm that it is being shown. A member that cannot keep up shows here.
func (r *Registry) Behind(m *Member) int { return int(r.next - m.until) }

// Members returns how many members there are, Entries how many different pairs they have added.
func (r *Registry) Members() int { return len(r.members) }

// Entries returns how many different pairs are in the swarm.
func (r *Registry) Entries() int { return len(r.entries) }

// Pairs returns all that is in the swarm, in order.
func (r *Registry) Pairs() []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(r.entries))
	for p := range r.entries {
		out = append(out, p.addrPort())
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

func (r *Registry) append(p pair, mode classic.Mode, other uint64) (seq uint64) {
	seq = r.next
	r.next++
	r.log = append(r.log, record{seq: seq, other: other, pair: p, mode: mode})
	return seq
}

// index returns where in the log the first record stands whose seq is not below the given one.
func (r *Registry) index(seq uint64) int {
	i, _ := slices.BinarySearchFunc(r.log, seq, func(rec record, seq uint64) int {
		switch {
		case rec.seq < seq:
			return -1
		case rec.seq > seq:
			return 1
		}
		return 0
	})
	return i
}

// compact lets the log forget when at least half of it is garbage.
func (r *Registry) compact() {
	if r.garbage >= 1024 && r.garbage >= len(r.log)/2 {
		r.forget()
	}
}

// forget drops what neither a member nor one who joins later can need. A record that lies before every member's window
// is needed only if it is of an entry that is still there.
func (r *Registry) forget() {
	needed := r.next
	for m := range r.members {
		if m.pos == m.until {
			needed = min(needed, m.until)
		} else {
			needed = min(needed, m.from)
		}
	}
	kept := make([]record, 0, len(r.entries)+64)
	for _, rec := range r.log {
		alive := rec.mode == classic.Add && rec.other == 0
		if alive || rec.seq >= needed {
			kept = append(kept, rec)
		}
	}
	r.log = kept
	// What had to stay counts as fresh, so that the next attempt waits until as much has come again.
	r.garbage = 0
}

func (p pair) String() string { return fmt.Sprint(p.addrPort()) }
