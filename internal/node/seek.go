package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/peer"
	"shoal/internal/wire"

	"golang.org/x/sync/errgroup"
)

const (
	// Questions of one neighbour that are answered, per second and at once, and those that we put to one.
	answerRate, answerBurst = 20, 400
	askRate, askBurst       = 10, 200
	// seekTimeout is how long the answer to one question is waited for, seekMost that of all pages, and muteTime how long one is not
	// asked again who has not answered.
	seekTimeout = 2 * time.Second
	seekMost    = 5 * time.Second
	muteTime    = 10 * time.Second
	// maxSeekPages bounds the pages of one neighbour's answer, maxSought the entries of all together, maxSeeking who is asked at once.
	maxSeekPages = 64
	maxSought    = 8192
	maxSeeking   = 16
)

// OffenceSeek is the reason for which a neighbour is cut off that asks too much, or answers what it was not asked.
const OffenceSeek = "questions"

// RefusedRecord is the reason in the book for a record whose signature does not hold.
const RefusedRecord = "record"

// errLost is why a question to the server ends when it is lost.
var errLost = errors.New("the server is gone")

// talk is what is asked and answered on one session.
type talk struct {
	m    *Member
	s    *peer.Session // set once it is in use
	role identity.Role

	mu      sync.Mutex // guards what follows
	answers bucket
	asks    bucket
	pending map[uint64]chan *wire.Here
	next    uint64
	mute    time.Time // until when it is not asked
}

// newTalk is called before a session is made of a connection.
func (n *near) newTalk(tc *tls.Conn) *talk {
	t := &talk{
		m: n.m, answers: newBucket(answerRate, answerBurst), asks: newBucket(askRate, askBurst), pending: make(map[uint64]chan *wire.Here), next: 1,
	}
	_, t.role, _ = n.m.cfg.Swarm.PeerOf(tc.ConnectionState())
	return t
}

// enter takes up the questions of a session that is in use.
func (n *near) enter(s *peer.Session, t *talk) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t.s = s
	n.talks[s] = t
}

func (n *near) leave(s *peer.Session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.talks, s)
}

// handle takes a message of the session, if it is a question or an answer. It is called by the session's reader.
func (t *talk) handle(s *peer.Session, m wire.Message, stop func(error)) (mine bool) {
	switch m := m.(type) {
	case *wire.Seek:
		t.mu.Lock()
		ok := t.answers.take(time.Now())
		t.mu.Unlock()
		if !ok {
			stop(&exchange.Offence{Reason: OffenceSeek, What: "too many"})
			return true
		}
		s.Send(t.m.client.Seek(m))
		return true
	case *wire.Here:
		t.mu.Lock()
		defer t.mu.Unlock()
		if m.Query >= t.next {
			stop(&exchange.Offence{Reason: OffenceSeek, What: "an answer to none"})
		}
		if ch := t.pending[m.Query]; ch != nil {
			delete(t.pending, m.Query)
			ch <- m
		}
		return true
	}
	return false
}

// ask puts one question, and waits for its page; nil: it does not answer.
func (t *talk) ask(ctx context.Context, q wire.Seek) *wire.Here {
	ctx, cancel := context.WithTimeout(ctx, seekTimeout)
	defer cancel()
	t.mu.Lock()
	for !t.asks.take(time.Now()) {
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second / askRate):
		}
		t.mu.Lock()
	}
	ch := make(chan *wire.Here, 1)
	q.Query = t.next
	t.next++
	t.pending[q.Query] = ch
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.pending, q.Query)
	}()
	if !t.s.Send(&q) {
		return nil
	}
	select {
	case m := <-ch:
		return m
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) { // and not the end of whoever asked
			t.mu.Lock()
			defer t.mu.Unlock()
			t.mute = time.Now().Add(muteTime)
		}
		return nil
	}
}

// all returns all pages of an answer.
func (t *talk) all(ctx context.Context, q wire.Seek) (out []wire.Entry) {
	ctx, cancel := context.WithTimeout(ctx, seekMost)
	defer cancel()
	for range maxSeekPages {
		m := t.ask(ctx, q)
		if m == nil {
			break
		}
		out = append(out, m.Entries...)
		if bytes.Compare(m.More, q.After) <= 0 {
			break
		}
		q.After = m.More
	}
	return out
}

// isMute says whether one does not answer for now.
func (t *talk) isMute() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.mute)
}

// answerers returns the sessions with those who answer questions.
func (n *near) answerers() (out []*talk) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s, t := range n.talks {
		if s.OtherHello().Features&wire.FeatureSeek != 0 && !t.isMute() {
			out = append(out, t)
		}
	}
	return out
}

// answer is what one neighbour says.
type answer struct {
	t       *talk
	entries []wire.Entry
}

// seek asks all neighbours.
func (n *near) seek(ctx context.Context, q wire.Seek) []answer {
	asked := n.answerers()
	out := make([]answer, len(asked))
	var g errgroup.Group
	g.SetLimit(maxSeeking)
	for i, t := range asked {
		g.Go(func() error { out[i] = answer{t, t.all(ctx, q)}; return nil })
	}
	_ = g.Wait()
	return out
}

// find returns what the neighbours have, once all who are there have been asked. That nobody is there is an error.
func (n *near) find(ctx context.Context, q wire.Seek) (out []answer, err error) {
	for {
		if q.Bits > 0 || n.settled(time.Now()) { // an id is the same whoever has it
			out = n.seek(ctx, q)
		}
		n.mu.Lock()
		since := n.since
		n.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case slices.ContainsFunc(out, func(a answer) bool { return len(a.entries) > 0 }):
			return out, nil
		case since.IsZero() || time.Since(since) > nearPatience && n.settled(time.Now()):
			if len(out) == 0 && !since.IsZero() {
				return nil, n.noServer()
			}
			return out, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// entries puts together what neighbours say. Only what is signed by one who may offer counts.
func (n *near) entries(answers []answer) (out []wire.Entry) {
	type key struct {
		id   content.ID
		name string
		by   wire.PeerID
	}
	verified, holders, seeds := make(map[string]wire.PeerID), make(map[content.ID]uint64), make(map[content.ID]uint64)
	names, at := make(map[wire.PeerID]string), make(map[key]bool)
	for _, a := range answers {
		names[a.t.s.Peer()] = a.t.s.OtherHello().Name
		counted := make(map[content.ID]bool)
		for _, e := range a.entries {
			// The signature covers the name, the id and the size; of the rest nothing is believed.
			proof := string(e.Record.Sig) + e.Name + string(e.ID[:]) + strconv.FormatInt(e.Size, 10) + string(e.Record.Chain[0])
			by, known := verified[proof]
			if !known {
				var err error
				if by, _, err = n.m.cfg.Swarm.VerifyRecord(e.Record); err != nil {
					n.m.book.Note(RefusedRecord, a.t.s.Addr(), err)
					continue
				}
				verified[proof] = by
			}
			if !counted[e.ID] {
				counted[e.ID] = true
				holders[e.ID]++
				seeds[e.ID] += min(e.Seeds, 1)
			}
			if k := (key{e.ID, e.Name, by}); !at[k] && len(out) < maxSought {
				at[k] = true
				out = append(out, wire.Entry{Name: e.Name, ID: e.ID, Size: e.Size, By: by, Record: e.Record, Kind: e.Kind})
			}
		}
	}
	for i := range out {
		out[i].Holders, out[i].Seeds, out[i].ByName = holders[out[i].ID], seeds[out[i].ID], names[out[i].By]
	}
	slices.SortFunc(out, func(a, b wire.Entry) int {
		if c := bytes.Compare(a.ID[:], b.ID[:]); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// lookUp returns what the neighbours have.
func (n *near) lookUp(ctx context.Context, q wire.Seek) ([]wire.Entry, error) {
	answers, err := n.find(ctx, q)
	return n.entries(answers), err
}

// who returns the neighbours.
func (n *near) who(ctx context.Context) (out []wire.Member, err error) {
	answers, err := n.find(ctx, wire.Seek{})
	if err != nil {
		return nil, err
	}
	for _, a := range answers {
		hello := a.t.s.OtherHello()
		ids := make(map[content.ID]bool)
		for _, e := range a.entries {
			ids[e.ID] = true
		}
		host, _, _ := net.SplitHostPort(a.t.s.Addr())
		out = append(out, wire.Member{
			ID: a.t.s.Peer(), Name: hello.Name, Role: string(a.t.role), Online: true, Agent: hello.Agent, Shares: uint64(len(ids)),
			Addrs: []string{net.JoinHostPort(host, strconv.Itoa(int(hello.Port)))},
		})
	}
	return out, nil
}

// ask asks the server, or while none answers, the neighbours.
func ask[T any](ctx context.Context, m *Member, server, neighbours func(ctx context.Context) ([]T, error)) ([]T, error) {
	if m.near.lan == nil {
		return server(ctx)
	}
	for {
		lost, up := m.client.Up()
		if !up && m.near.alone() {
			return neighbours(ctx)
		}
		if !up { // it was lost, or has come, a moment ago
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		out, err := untilLost(ctx, lost, server)
		if !errors.Is(err, errLost) {
			return out, err
		}
	}
}

// untilLost asks the server until it is lost.
func untilLost[T any](ctx context.Context, lost <-chan struct{}, server func(ctx context.Context) ([]T, error)) ([]T, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-lost:
			cancel(errLost)
		case <-ctx.Done():
		}
	})
	defer watching.Wait()
	defer cancel(nil)
	return server(ctx)
}

// Find returns what the swarm has under a name, or of an id.
func (m *Member) Find(ctx context.Context, name string, prefix content.Prefix) ([]wire.Entry, error) {
	return ask(ctx, m, func(ctx context.Context) ([]wire.Entry, error) { return m.client.Find(ctx, name, prefix) },
		func(ctx context.Context) ([]wire.Entry, error) {
			return m.near.lookUp(ctx, wire.Seek{Name: name, Prefix: prefix.ID, Bits: uint16(prefix.Bits)})
		})
}

// List returns all that the swarm has.
func (m *Member) List(ctx context.Context) ([]wire.Entry, error) {
	return ask(ctx, m, m.client.List, func(ctx context.Context) ([]wire.Entry, error) { return m.near.lookUp(ctx, wire.Seek{}) })
}

// Who returns who is in the swarm, or who ever was, which only the server knows.
func (m *Member) Who(ctx context.Context, all bool) ([]wire.Member, error) {
	return ask(ctx, m, func(ctx context.Context) ([]wire.Member, error) { return m.client.Who(ctx, all) },
		func(ctx context.Context) ([]wire.Member, error) {
			if all {
				return nil, m.near.noServer()
			}
			return m.near.who(ctx)
		})
}

// Alone says whether no server answers, and the member knows only those on its own network.
func (m *Member) Alone() bool {
	if m.near.lan == nil {
		return false
	}
	_, up := m.client.Up()
	return !up && m.near.alone()
}

// knowsAll says whether what was found is all that there is: a server that has just begun does not know yet.
func (m *Member) knowsAll() bool { return m.Alone() || m.ServerAge() > fullAge }

// notThere is the error of one who has asked everybody.
func (m *Member) notThere(what string) error {
	if m.Alone() {
		return &NoContentError{What: what, Asked: len(m.near.answerers())}
	}
	return &NoContentError{What: what}
}
