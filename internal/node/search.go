package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"shoal/internal/peer"
)

const (
	// maxAsking is how many peers are asked at once.
	maxAsking = 32
	// quietTime is how long nothing new must have come from the server before all members count as known.
	quietTime = 150 * time.Millisecond
	// startTime is how long after the first holder answered the others are waited for.
	startTime = 300 * time.Millisecond
	// giveUpTime is how long nothing new must have come from the server before a name counts as not there.
	giveUpTime = time.Second
	// nobodyTime is how long the server must have said nothing before nobody counts as being there at all: it is rarely so, and a server that has much to do tells late.
	nobodyTime = 4 * time.Second
	// askAgain is when a peer that did not have the file is asked again, for it may be fetching it too; it doubles each time, up
	// to askAgainMost.
	askAgain     = 5 * time.Second
	askAgainMost = 2 * time.Minute
	// unrestTime is how long a swarm whose members come and go all the time may keep a search from its end.
	unrestTime = 5 * time.Second
)

// NotFoundError is a name that nobody in the swarm shares.
type NotFoundError struct {
	Name    string
	Asked   int // peers that were asked
	Refused int // of those: that could not be reached, as peers that share nothing
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("nobody in this swarm shares %q (asked %d)", e.Name, e.Asked)
}

// TwoContentsError is a name under which different files are shared.
type TwoContentsError struct {
	Name     string
	Contents []Content // by number of holders, the most first
}

func (e *TwoContentsError) Error() string {
	return fmt.Sprintf("%q means %d different files in this swarm", e.Name, len(e.Contents))
}

// Content is a file as some holders describe it.
type Content struct {
	peer.Answer
	Holders []netip.AddrPort
}

// search asks the members of the swarm for a name, those that come later too.
type search struct {
	n    *Node
	name string
	from []netip.AddrPort // if not empty, only these are asked; port 0 stands for any

	asked   map[netip.AddrPort]*asked
	at      map[netip.Addr]int // how many at an address were asked
	asking  int
	answers chan answered
	running sync.WaitGroup
	first   time.Time // when the first holder answered
	began   time.Time
	seen    <-chan struct{} // the state of the swarm for which asked was pruned
}

// asked is what is known of one member.
type asked struct {
	pending bool
	answer  peer.Answer
	err     error
	at      time.Time // when it answered
	tries   int       // how often it was asked
	used    bool      // what it has was taken notice of
}

type answered struct {
	addr   netip.AddrPort
	answer peer.Answer
	err    error
}

func newSearch(n *Node, name string, from []netip.AddrPort) *search {
	return &search{
		n: n, name: name, from: from,
		began: time.Now(), asked: make(map[netip.AddrPort]*asked), at: make(map[netip.Addr]int), answers: make(chan answered, maxAsking),
	}
}

// wait waits for its goroutines; their ctx must have ended.
func (s *search) wait() { s.running.Wait() }

// step asks whom it can, waits for one thing to happen, at most as long as given, and takes it in.
func (s *search) step(ctx context.Context, most time.Duration) {
	members, _, changed := s.n.members.watch()
	if s.seen != changed { // who comes back is asked anew: it may have been restarted, with another file
		s.seen = changed
		for a, known := range s.asked {
			if _, here := slices.BinarySearchFunc(members, a, netip.AddrPort.Compare); !here && !known.pending {
				delete(s.asked, a)
				if s.at[a.Addr()]--; s.at[a.Addr()] == 0 {
					delete(s.at, a.Addr())
				}
			}
		}
	}
	for _, a := range s.next(members) {
		s.ask(ctx, a)
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	case got := <-s.answers:
		s.asking--
		now := time.Now()
		*s.asked[got.addr] = asked{answer: got.answer, err: got.err, at: now, tries: s.asked[got.addr].tries}
		if got.answer.Chunks > 0 && s.first.IsZero() {
			s.first = now
		}
		if errors.Is(got.err, peer.ErrProtocol) {
			s.n.book.Note(RefusedAnswer, got.addr.String(), got.err)
		}
		s.n.log.Debug("asked", "peer", got.addr, "name", s.name, "chunks", got.answer.Chunks, "err", got.err)
	}
}

// next returns who is to be asked now. Those who do not answer must not keep us from those who would: who was never asked goes first, and of these
// who is at an address of which the fewest were asked, for one machine can be in the swarm a thousand times.
func (s *search) next(members []netip.AddrPort) (out []netip.AddrPort) {
	if s.asking >= maxAsking {
		return nil
	}
	var fresh, again []netip.AddrPort
	for _, a := range members {
		if !s.wanted(a) {
			continue
		}
		if s.asked[a] == nil {
			fresh = append(fresh, a)
		} else {
			again = append(again, a)
		}
	}
	turn := make(map[netip.AddrPort]int, len(fresh)) // how many of its address come before it
	at := maps.Clone(s.at)
	for _, a := range fresh {
		turn[a] = at[a.Addr()]
		at[a.Addr()]++
	}
	slices.SortStableFunc(fresh, func(a, b netip.AddrPort) int { return cmp.Compare(turn[a], turn[b]) })
	all := append(fresh, again...)
	return all[:min(len(all), maxAsking-s.asking)]
}

// wanted says whether a member is to be asked now.
func (s *search) wanted(a netip.AddrPort) bool {
	if len(s.from) > 0 && !slices.ContainsFunc(s.from, func(f netip.AddrPort) bool {
		return f == a || (f.Port() == 0 && f.Addr() == a.Addr())
	}) {
		return false
	}
	known := s.asked[a]
	return known == nil || (!known.pending && known.answer.Chunks == 0 && !errors.Is(known.err, peer.ErrProtocol) &&
		time.Since(known.at) > min(askAgain<<min(known.tries-1, 10), askAgainMost))
}

func (s *search) ask(ctx context.Context, a netip.AddrPort) {
	if s.asked[a] == nil {
		s.asked[a] = &asked{}
		s.at[a.Addr()]++
	}
	s.asked[a].pending = true // the answer of the last time stands until the next
	s.asked[a].tries++
	s.asking++
	s.running.Go(func() {
		answer, err := (&peer.Holder{Addr: a, Name: s.name}).Ask(ctx)
		s.answers <- answered{a, answer, err} // never blocks: at most maxAsking are under way
	})
}

// contents groups the holders by what they say that they have. The largest group comes first.
func (s *search) contents() []Content {
	var out []Content
	for a, known := range s.asked {
		if known.answer.Chunks == 0 {
			continue
		}
		i := slices.IndexFunc(out, func(c Content) bool { return c.Answer == known.answer })
		if i < 0 {
			i = len(out)
			out = append(out, Content{Answer: known.answer})
		}
		out[i].Holders = append(out[i].Holders, a)
	}
	for _, c := range out {
		slices.SortFunc(c.Holders, netip.AddrPort.Compare)
	}
	slices.SortFunc(out, func(a, b Content) int {
		if d := len(b.Holders) - len(a.Holders); d != 0 {
			return d
		}
		return a.Holders[0].Compare(b.Holders[0])
	})
	return out
}

// everyoneAnswered says whether all known members were asked, and answered, and no new ones came for that long.
func (s *search) everyoneAnswered(quiet time.Duration) bool {
	members, since, _ := s.n.members.watch()
	if quiet >= giveUpTime && len(members) == 0 {
		quiet = nobodyTime
	}
	if time.Since(since) < quiet && time.Since(s.began) < unrestTime {
		return false
	}
	return !slices.ContainsFunc(members, func(a netip.AddrPort) bool {
		known := s.asked[a]
		return known == nil && s.wanted(a) || known != nil && known.at.IsZero()
	})
}

// decide returns the content to fetch, or none as long as it is too soon to say.
func (s *search) decide(wait bool) (*Content, error) {
	contents := s.contents()
	switch {
	case len(contents) == 0:
		if !wait && s.everyoneAnswered(giveUpTime) {
			e := &NotFoundError{Name: s.name, Asked: len(s.asked)}
			for _, known := range s.asked {
				if known.err != nil {
					e.Refused++
				}
			}
			return nil, e
		}
		return nil, nil
	case !s.everyoneAnswered(quietTime) && time.Since(s.first) < startTime:
		return nil, nil
	case len(contents) > 1:
		return nil, &TwoContentsError{Name: s.name, Contents: contents}
	}
	return &contents[0], nil
}
