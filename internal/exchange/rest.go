package exchange

import (
	"slices"
	"time"

	"shoal/internal/content"
	"shoal/internal/wire"
)

const (
	// restAfter is how long nobody must have exchanged a content that is whole before it rests.
	restAfter = time.Minute
	// maxLoading bounds the manifests that are loaded at once.
	maxLoading = 2
)

// A content of which all is here, and that nobody exchanges, rests: the loop knows nothing of it, and who holds it closes its file. So a
// peer can share many. It is woken when somebody opens it.

// wake brings in a content that rests; nil if there is none.
func (l *loop) wake(id content.ID) *exchanged {
	if l.x.cfg.Whole == nil {
		return nil
	}
	content := l.x.cfg.Whole(id)
	if content == nil {
		return nil
	}
	c := l.bring(content)
	c.wakes = true
	return c
}

// rest lets a content rest that is not exchanged, if it is time.
func (l *loop) rest(c *exchanged) {
	if !c.wakes || l.now()-c.idle < restAfter || l.isGiven(c) {
		return
	}
	l.giver.RemoveContent(c.number)
	delete(l.contents, c.ID)
	l.x.neighbours.Delete(c.ID)
	l.order[c.number] = nil
	l.free = append(l.free, c.number)
	l.x.running.Go(c.Rest())
}

// isGiven says whether a transfer of a content is under way, though nobody has it open any more.
func (l *loop) isGiven(c *exchanged) bool {
	for _, n := range l.conns {
		if slices.ContainsFunc(n.giving, func(g *giving) bool { return g.c == c }) {
			return true
		}
	}
	return false
}

// asked is a neighbour's question for a part of a manifest.
type asked struct {
	ch *channel
	m  *wire.Manifest
}

// encode makes a content's manifest ready to be sent; false: that takes a while, and who asks is answered then.
func (l *loop) encode(c *exchanged, who asked) bool {
	if !c.Manifest.IsBare() {
		c.encoded = c.Manifest.Append(nil)
		return true
	}
	c.waiting = slices.DeleteFunc(c.waiting, func(a asked) bool { return a.ch == who.ch })
	c.waiting = append(c.waiting, who)
	if !c.loads {
		c.loads = true
		l.toLoad = append(l.toLoad, c)
		l.load()
	}
	return false
}

// load loads the manifests that are asked for, a few at once.
func (l *loop) load() {
	for l.loading < maxLoading && len(l.toLoad) > 0 {
		c := l.toLoad[0]
		l.toLoad = l.toLoad[1:]
		l.loading++
		x, ctx := l.x, l.ctx
		x.running.Go(func() {
			m, err := c.Load(ctx)
			var encoded []byte
			if err == nil {
				encoded = m.Append(nil)
			}
			x.post(func(l *loop) { l.loaded(c, encoded, err) })
		})
	}
}

// loaded answers those who have asked for a manifest.
func (l *loop) loaded(c *exchanged, encoded []byte, err error) {
	l.loading--
	l.load()
	waiting := c.waiting
	c.waiting, c.loads = nil, false
	if l.contents[c.ID] != c {
		return
	}
	if err != nil {
		l.changed(c, err)
		return
	}
	c.encoded = encoded
	for _, a := range waiting {
		if !a.ch.gone {
			l.hearManifest(a.ch, a.m)
		}
	}
}
