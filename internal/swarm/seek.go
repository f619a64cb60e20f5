package swarm

import (
	"bytes"
	"slices"

	"shoal/internal/content"
	"shoal/internal/wire"
)

// Up says whether there is a connection to a server; lost is closed when it ends.
func (c *V2Client) Up() (lost <-chan struct{}, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost, c.conn != nil
}

// Seek answers a neighbour's question by what the member holds and has a record of: a page from After on. A content's names are never parted.
func (c *V2Client) Seek(q *wire.Seek) *wire.Here {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &wire.Here{Query: q.Query}
	prefix := content.Prefix{ID: q.Prefix, Bits: int(q.Bits)}
	var ids []content.ID
	for id, x := range c.mine {
		if x.held && len(x.offers) > 0 && (q.Bits == 0 || prefix.Match(id)) && (len(q.After) == 0 || bytes.Compare(id[:], q.After) > 0) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b content.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		es := c.entries(id, q.Name)
		if len(m.Entries)+len(es) > pageEntries {
			last := m.Entries[len(m.Entries)-1].ID
			m.More = last[:]
			break
		}
		m.Entries = append(m.Entries, es...)
	}
	return m
}

// entries returns what the member has of a content, at most a page. c.mu is held.
func (c *V2Client) entries(id content.ID, name string) (out []wire.Entry) {
	seeds := uint64(0)
	if c.mine[id].all {
		seeds = 1
	}
	for _, r := range c.mine[id].offers {
		if (name == "" || r.Name == name) && len(out) < pageEntries {
			out = append(out, wire.Entry{Name: r.Name, ID: id, Size: r.Size, Holders: 1, Seeds: seeds, Record: &r, Kind: r.Kind})
		}
	}
	return out
}
