package swarm

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"

	"shoal/internal/content"
	"shoal/internal/wire"
)

// Bounds of a table.
const (
	MaxHolds     = 16384 // contents that one peer holds
	MaxOffers    = 16384 // records that one peer holds up
	MaxNames     = 64    // names of one content
	MaxFollows   = 1024  // contents that one peer follows, beside those that it holds
	MaxContents  = 1 << 20
	drawSize     = 40 // peers in one draw
	pageEntries  = 24
	pageMembers  = 48
	followFactor = drawSize // how many a follower is told of before it asks for another draw
)

// ErrBound is a request over a bound of the table.
var ErrBound = errors.New("a bound of the server is reached")

// PeerKey is one process of one peer.
type PeerKey struct {
	ID       wire.PeerID
	Instance uint64
}

// Table knows who is connected, what they hold and under which names, and who wants to be told. It is pure: it reads no clock
// and sends nothing. What is to be told is returned.
type Table struct {
	rand     *rand.Rand
	peers    map[PeerKey]*tablePeer
	contents map[content.ID]*tableContent
	names    map[string]map[content.ID]bool
	order    []content.ID // sorted; nil after a change
}

// tablePeer is one who is connected.
type tablePeer struct {
	key     PeerKey
	role    string
	name    string
	agent   string
	site    string
	addrs   []string
	holds   map[content.ID]bool // whether others were told
	quiet   bool                // they are not told of what it holds from now on
	follows map[content.ID]int  // how many it was told of
	offers  int
}

// tableContent is what somebody holds or follows.
type tableContent struct {
	id        content.ID
	size      int64
	holders   []PeerKey // in chance order
	at        map[PeerKey]int
	seeds     map[PeerKey]bool
	followers map[PeerKey]bool
	names     []*tableName
}

// tableName is a name of a content, with the record that proves it.
type tableName struct {
	record wire.Record
	by     wire.PeerID
	byName string
	since  int64            // seconds
	held   map[PeerKey]bool // who repeats it
}

// Told is a message for one who is connected.
type Told struct {
	To  PeerKey
	Msg *wire.Peers
}

// NewTable makes an empty table.
func NewTable(r *rand.Rand) *Table {
	return &Table{
		rand: r, peers: make(map[PeerKey]*tablePeer), contents: make(map[content.ID]*tableContent),
		names: make(map[string]map[content.ID]bool),
	}
}

// Enter brings somebody in.
func (t *Table) Enter(k PeerKey, role, name, agent string, addrs []string) {
	t.peers[k] = &tablePeer{
		key: k, role: role, name: name, agent: agent, addrs: addrs, holds: make(map[content.ID]bool), follows: make(map[content.ID]int),
	}
}

// Leave takes somebody out, with all that is only theirs.
func (t *Table) Leave(k PeerKey) (told []Told) {
	p := t.peers[k]
	if p == nil {
		return nil
	}
	for _, id := range sortedIDs(p.holds) {
		told = append(told, t.Retract(k, id)...)
	}
	for id := range p.follows {
		t.Unfollow(k, id)
	}
	delete(t.peers, k)
	return told
}

func sortedIDs[V any](m map[content.ID]V) []content.ID {
	out := make([]content.ID, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b content.ID) int { return bytes.Compare(a[:], b[:]) })
	return out
}

func (t *Table) content(id content.ID) *tableContent {
	c := t.contents[id]
	if c == nil {
		c = &tableContent{id: id, at: make(map[PeerKey]int), seeds: make(map[PeerKey]bool), followers: make(map[PeerKey]bool)}
		t.contents[id] = c
		t.order = nil
	}
	return c
}

// drop forgets a content that nobody holds or follows.
func (t *Table) drop(c *tableContent) {
	if len(c.holders) == 0 && len(c.followers) == 0 {
		delete(t.contents, c.id)
		t.order = nil
	}
}

// Hold says that somebody exchanges a content.
func (t *Table) Hold(k PeerKey, id content.ID, size int64, all bool) ([]Told, error) {
	p := t.peers[k]
	if p == nil {
		return nil, nil
	}
	_, holds := p.holds[id]
	switch {
	case !holds && len(p.holds) >= MaxHolds, t.contents[id] == nil && len(t.contents) >= MaxContents:
		return nil, ErrBound
	}
	c := t.content(id)
	if len(c.holders) == 0 {
		c.size = size
	}
	if all {
		c.seeds[k] = true
	} else {
		delete(c.seeds, k)
	}
	if holds {
		return nil, nil
	}
	p.holds[id] = !p.quiet
	c.holders = append(c.holders, k)
	last := len(c.holders) - 1
	other := t.rand.IntN(last + 1)
	c.holders[last], c.holders[other] = c.holders[other], k
	c.at[c.holders[last]] = last
	c.at[k] = other
	if p.quiet {
		return nil, nil
	}
	return t.tell(c, k, true), nil
}

// Quiet says whether others are told of what somebody holds from now on, and of its end. They find it all the same when they ask; of what it still holds
// when it is quiet no more they are told then.
func (t *Table) Quiet(k PeerKey, quiet bool) (told []Told) {
	p := t.peers[k]
	if p == nil || p.quiet == quiet {
		return nil
	}
	if p.quiet = quiet; quiet {
		return nil
	}
	for _, id := range sortedIDs(p.holds) {
		if !p.holds[id] {
			p.holds[id] = true
			told = append(told, t.tell(t.contents[id], k, true)...)
		}
	}
	return told
}

// tell returns what followers are to be told of one who came or went.
func (t *Table) tell(c *tableContent, k PeerKey, came bool) (told []Told) {
	followers := make([]PeerKey, 0, len(c.followers))
	for f := range c.followers {
		followers = append(followers, f)
	}
	slices.SortFunc(followers, compareKeys)
	for _, f := range followers {
		p := t.peers[f]
		if f == k || p == nil {
			continue
		}
		m := &wire.Peers{ID: c.id, Total: t.total(c, f)}
		if came {
			if p.follows[c.id] >= followFactor && t.rand.IntN(len(c.holders)) >= followFactor {
				continue // it knows enough; now and then it is told of a new one
			}
			p.follows[c.id]++
			m.Added = []wire.PeerAddr{t.addr(k)}
		} else {
			m.Gone = []wire.PeerAddr{{ID: k.ID, Instance: k.Instance}}
			p.follows[c.id] = max(p.follows[c.id]-1, 0)
		}
		told = append(told, Told{f, m})
	}
	return told
}

func compareKeys(a, b PeerKey) int {
	if c := bytes.Compare(a.ID[:], b.ID[:]); c != 0 {
		return c
	}
	switch {
	case a.Instance < b.Instance:
		return -1
	case a.Instance > b.Instance:
		return 1
	}
	return 0
}

func (t *Table) addr(k PeerKey) wire.PeerAddr {
	return wire.PeerAddr{ID: k.ID, Instance: k.Instance, Addrs: t.peers[k].addrs}
}

// total returns how many hold a content, one not counted.
func (t *Table) total(c *tableContent, but PeerKey) uint64 {
	n := len(c.holders)
	if _, holds := c.at[but]; holds {
		n--
	}
	return uint64(n)
}

// Retract ends a hold, and what was offered of that content.
func (t *Table) Retract(k PeerKey, id content.ID) []Told {
	p, c := t.peers[k], t.contents[id]
	if p == nil || c == nil {
		return nil
	}
	known, holds := p.holds[id]
	if !holds {
		return nil
	}
	delete(p.holds, id)
	delete(c.seeds, k)
	i, last := c.at[k], len(c.holders)-1
	c.holders[i] = c.holders[last]
	c.at[c.holders[i]] = i
	c.holders = c.holders[:last]
	delete(c.at, k)
	for _, n := range c.names {
		if n.held[k] {
			delete(n.held, k)
			p.offers--
		}
	}
	if len(c.holders) == 0 {
		for _, n := range c.names {
			t.unname(n.record.Name, id)
		}
		c.names = nil
	}
	defer t.drop(c)
	if !known {
		return nil
	}
	return t.tell(c, k, false)
}

func (t *Table) unname(name string, id content.ID) {
	delete(t.names[name], id)
	if len(t.names[name]) == 0 {
		delete(t.names, name)
	}
}

// Offer gives a content that the sender holds a name, by a record that was verified. A name stays while its content has a holder.
func (t *Table) Offer(k PeerKey, r wire.Record, by wire.PeerID, now int64) error {
	p, c := t.peers[k], t.contents[r.ID]
	if p == nil || c == nil {
		return nil
	}
	if _, holds := p.holds[r.ID]; !holds {
		return nil // the hold was refused, or is over
	}
	i := slices.IndexFunc(c.names, func(n *tableName) bool { return n.record.Name == r.Name && n.by == by })
	if i < 0 {
		if len(c.names) >= MaxNames {
			return ErrBound
		}
		n := &tableName{record: r, by: by, since: now, held: make(map[PeerKey]bool)}
		if by == k.ID {
			n.byName = p.name
		}
		i = len(c.names)
		c.names = append(c.names, n)
		if t.names[r.Name] == nil {
			t.names[r.Name] = make(map[content.ID]bool)
		}
		t.names[r.Name][r.ID] = true
	}
	if n := c.names[i]; !n.held[k] {
		if p.offers >= MaxOffers {
			return ErrBound
		}
		n.held[k] = true
		p.offers++
	}
	return nil
}

// Follow returns a draw of those who hold a content. Changes are told from then on.
func (t *Table) Follow(k PeerKey, id content.ID) (*wire.Peers, error) {
	p := t.peers[k]
	if p == nil {
		return nil, nil
	}
	if _, again := p.follows[id]; !again && (len(p.follows) >= MaxFollows+MaxHolds || t.contents[id] == nil && len(t.contents) >= MaxContents) {
		return nil, ErrBound
	}
	c := t.content(id)
	c.followers[k] = true
	m := &wire.Peers{ID: id, Snapshot: true, Total: t.total(c, k)}
	for _, h := range t.drawFor(p, c) {
		if h != k && len(m.Added) < drawSize {
			m.Added = append(m.Added, t.addr(h))
		}
	}
	p.follows[id] = len(m.Added)
	return m, nil
}

// draw returns up to drawSize+1 different numbers below n, at random.
func (t *Table) draw(n int) (out []int) {
	if n <= drawSize+1 {
		return t.rand.Perm(n)
	}
	seen := make(map[int]bool)
	for len(out) <= drawSize {
		if i := t.rand.IntN(n); !seen[i] {
			seen[i] = true
			out = append(out, i)
		}
	}
	return out
}

// Unfollow ends a follow.
func (t *Table) Unfollow(k PeerKey, id content.ID) {
	if p := t.peers[k]; p != nil {
		delete(p.follows, id)
	}
	if c := t.contents[id]; c != nil {
		delete(c.followers, k)
		t.drop(c)
	}
}

// entries returns what is known of a content, one entry for each name.
func (t *Table) entries(c *tableContent, now int64, name string, records bool) (out []wire.Entry) {
	if len(c.holders) == 0 {
		return nil
	}
	for _, n := range c.names {
		if name != "" && n.record.Name != name {
			continue
		}
		e := wire.Entry{
			Name: n.record.Name, ID: c.id, Size: n.record.Size, Holders: uint64(len(c.holders)), Seeds: uint64(len(c.seeds)),
			Age: uint64(max(now-n.since, 0)), By: n.by, ByName: n.byName, Kind: n.record.Kind,
		}
		if records {
			r := n.record
			e.Record = &r
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b wire.Entry) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Find returns what there is under a name, or of ids with a prefix: a page of it from After on.
func (t *Table) Find(q *wire.Find, now int64) *wire.Found {
	var ids []content.ID
	if q.Bits > 0 {
		p := content.Prefix{ID: q.Prefix, Bits: int(q.Bits)}
		all := t.sorted()
		from, _ := slices.BinarySearchFunc(all, q.Prefix, func(a, b content.ID) int { return bytes.Compare(a[:], b[:]) })
		for _, id := range all[from:] {
			if !p.Match(id) {
				break
			}
			ids = append(ids, id)
		}
	} else {
		ids = sortedIDs(t.names[q.Name])
	}
	return t.page(q.Query, ids, q.After, now, q.Name, true)
}

// List returns a page of all there is.
func (t *Table) List(q *wire.List, now int64) *wire.Found {
	return t.page(q.Query, t.sorted(), q.After, now, "", false)
}

func (t *Table) sorted() []content.ID {
	if t.order == nil {
		t.order = sortedIDs(t.contents)
	}
	return t.order
}

// page returns the entries of contents behind the last one of the page before. A content's names are never parted.
func (t *Table) page(query uint64, ids []content.ID, after []byte, now int64, name string, records bool) *wire.Found {
	m := &wire.Found{Query: query}
	for _, id := range ids {
		if len(after) > 0 && bytes.Compare(id[:], after) <= 0 {
			continue
		}
		es := t.entries(t.contents[id], now, name, records)
		if len(es) > pageEntries {
			es = es[:pageEntries]
		}
		if len(m.Entries)+len(es) > pageEntries {
			last := m.Entries[len(m.Entries)-1].ID
			m.More = last[:]
			break
		}
		m.Entries = append(m.Entries, es...)
	}
	return m
}

// Who returns a page of who is connected.
func (t *Table) Who(q *wire.Who) *wire.There {
	keys := make([]PeerKey, 0, len(t.peers))
	for k := range t.peers {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys)
	m := &wire.There{Query: q.Query}
	for _, k := range keys {
		cursor := keyBytes(k)
		if len(q.After) > 0 && bytes.Compare(cursor, q.After) <= 0 {
			continue
		}
		if len(m.Members) == pageMembers {
			break
		}
		p := t.peers[k]
		m.Members = append(m.Members, wire.Member{
			ID: k.ID, Name: p.name, Role: p.role, Addrs: p.addrs, Online: true, Agent: p.agent, Shares: uint64(len(p.holds)),
		})
		m.More = cursor
	}
	if len(m.Members) < pageMembers {
		m.More = nil
	}
	return m
}

func keyBytes(k PeerKey) []byte {
	b := append([]byte(nil), k.ID[:]...)
	for i := 7; i >= 0; i-- {
		b = append(b, byte(k.Instance>>(8*i)))
	}
	return b
}

// Count returns how many are connected.
func (t *Table) Count() int { return len(t.peers) }
