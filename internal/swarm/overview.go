package swarm

import (
	"bytes"
	"slices"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"
)

// Bounds of an overview: what a page can show at once.
const (
	maxSeenMembers  = 5000
	maxSeenContents = 500
	maxSeenHolds    = 20_000
	maxNews         = 200
)

// Overview is a swarm at one moment, for people. What is over a bound is counted, and not listed: the members are those that came
// first in the order of their ids, the contents those with the most holders.
type Overview struct {
	Up                         time.Duration
	Members, Contents, Classic int // all there are
	Joined, Left, Completed    int // since the server began
	There                      []SeenMember
	Contained                  []SeenContent
	Holds                      []SeenHold
	News                       []News // the newest last
}

// SeenMember is one who is connected.
type SeenMember struct {
	Key               PeerKey
	Name, Role, Agent string
	Site              string
	Addrs             []string
	Holds, Whole      int // contents
}

// SeenContent is what somebody holds.
type SeenContent struct {
	ID             content.ID
	Names          []string
	Size           int64
	Holders, Seeds int
	Age            int64 // seconds, of its oldest name
}

// SeenHold is who holds what: indices of the two lists.
type SeenHold struct {
	Member, Content int
	All             bool
}

// What News tells.
const (
	NewsJoined    = "joined"
	NewsLeft      = "left"
	NewsCompleted = "completed"
)

// News is that somebody came, went, or has all of a content now.
type News struct {
	Time    time.Time
	What    string
	ID      wire.PeerID
	Name    string // of the peer
	Content string // its name; empty: none is known
}

// Overview returns what of the table people are shown.
func (t *Table) Overview(now int64) (o Overview) {
	o.Members = len(t.peers)
	keys := make([]PeerKey, 0, len(t.peers))
	for k := range t.peers {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys)
	keys = keys[:min(len(keys), maxSeenMembers)]
	index := t.overContents(&o, now)
	for i, k := range keys {
		p := t.peers[k]
		m := SeenMember{Key: k, Name: p.name, Role: p.role, Agent: p.agent, Site: p.site, Addrs: p.addrs, Holds: len(p.holds)}
		for id := range p.holds {
			all := t.contents[id].seeds[k]
			if all {
				m.Whole++
			}
			if c, seen := index[id]; seen && len(o.Holds) < maxSeenHolds {
				o.Holds = append(o.Holds, SeenHold{i, c, all})
			}
		}
		o.There = append(o.There, m)
	}
	slices.SortFunc(o.Holds, func(a, b SeenHold) int {
		if a.Member != b.Member {
			return a.Member - b.Member
		}
		return a.Content - b.Content
	})
	return o
}

// overContents adds the contents, and returns where each stands.
func (t *Table) overContents(o *Overview, now int64) map[content.ID]int {
	var all []*tableContent
	for _, c := range t.contents {
		if len(c.holders) > 0 {
			all = append(all, c)
		}
	}
	o.Contents = len(all)
	slices.SortFunc(all, func(a, b *tableContent) int {
		if d := len(b.holders) - len(a.holders); d != 0 {
			return d
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
	index := make(map[content.ID]int)
	for i, c := range all[:min(len(all), maxSeenContents)] {
		s := SeenContent{ID: c.id, Size: c.size, Holders: len(c.holders), Seeds: len(c.seeds)}
		for _, n := range c.names {
			s.Names = append(s.Names, n.record.Name)
			s.Age = max(s.Age, now-n.since)
		}
		slices.Sort(s.Names)
		s.Names = slices.Compact(s.Names)
		o.Contained = append(o.Contained, s)
		index[c.id] = i
	}
	return index
}

// completes says whether somebody who holds a part of a content has all of it with this.
func (t *Table) completes(k PeerKey, id content.ID, all bool) bool {
	c := t.contents[id]
	if c == nil || !all {
		return false
	}
	_, holds := c.at[k]
	return holds && !c.seeds[k]
}

// nameOf is a name of a content; empty: none is known.
func (t *Table) nameOf(id content.ID) string {
	if c := t.contents[id]; c != nil && len(c.names) > 0 {
		return c.names[0].record.Name
	}
	return ""
}

// activity is what has happened in a swarm.
type activity struct {
	joined, left, completed int
	news                    []News
}

func (a *activity) note(n News) {
	switch n.What {
	case NewsJoined:
		a.joined++
	case NewsLeft:
		a.left++
	case NewsCompleted:
		a.completed++
	}
	a.news = append(a.news[max(0, len(a.news)+1-maxNews):], n)
}

// Overview returns the swarm as people are shown it.
func (s *V2) Overview() Overview {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.table.Overview(int64(time.Since(s.began).Seconds()))
	o.Up, o.Joined, o.Left, o.Completed = time.Since(s.began), s.activity.joined, s.activity.left, s.activity.completed
	o.News = slices.Clone(s.activity.news)
	return o
}

// happened notes what people are told of. s.mu is held.
func (s *V2) happened(what string, k PeerKey, name string) {
	n := News{Time: time.Now(), What: what, ID: k.ID, Content: name}
	if p := s.table.peers[k]; p != nil {
		n.Name = p.name
	}
	s.activity.note(n)
}
