package daemon

import (
	"slices"
	"time"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/node"
)

// State is what a transfer is doing.
type State string

// The states.
const (
	Hashing     State = "hashing"     // its bytes are read, to know what it is or what of it is here
	Seeding     State = "seeding"     // it is shared
	Waiting     State = "waiting"     // for its turn, for the swarm, or for somebody who has it
	Downloading State = "downloading" // its pieces are fetched
	Paused      State = "paused"
	Complete    State = "complete" // the download is done, and shared
	Failed      State = "failed"
	Changed     State = "changed" // the file is not any more what was shared
)

// States are all of them.
var States = []State{Hashing, Seeding, Waiting, Downloading, Paused, Complete, Failed, Changed}

// Failure is an error as people are told it, with its stable code.
type Failure struct {
	Code      string `json:"code"`
	What      string `json:"what"`
	Cause     string `json:"cause,omitempty"`
	Next      string `json:"next,omitempty"`
	Exit      int    `json:"exit"`
	Retryable bool   `json:"retryable"`
}

func (f *Failure) Error() string { return f.What }

// Row is a transfer in a list. Sizes are bytes, rates bytes per second, times seconds.
type Row struct {
	ID       string  `json:"id"`
	Kind     Kind    `json:"kind"`
	State    State   `json:"state"`
	Name     string  `json:"name"`
	Path     string  `json:"path,omitempty"`
	Folder   string  `json:"folder,omitempty"` // the watched folder that it lies in
	Swarm    string  `json:"swarm"`
	Content  string  `json:"content,omitempty"`
	Size     int64   `json:"size"`
	Done     int64   `json:"done"`              // verified bytes that are here
	Arriving int64   `json:"arriving"`          // bytes of pieces under way
	Checked  int64   `json:"checked,omitempty"` // bytes hashed, while it is hashed
	Resumed  int64   `json:"resumed,omitempty"` // bytes that were here before
	Received int64   `json:"received"`          // since the peer or the transfer began
	Wasted   int64   `json:"wasted,omitempty"`
	Sent     int64   `json:"sent"`
	Down     int64   `json:"down"`
	Up       int64   `json:"up"`
	ETA      float64 `json:"eta,omitempty"`
	Sources  int     `json:"sources"` // who give at this moment
	Peers    int     `json:"peers"`   // who exchange it with us
	DiskFull bool    `json:"disk_full,omitempty"`
	Already  bool    `json:"already,omitempty"` // it was complete before
	Given    int     `json:"given"`             // whole copies that others have got here
	Paused   bool    `json:"paused,omitempty"`
	// Directory: it is one; Partly: not all of it is wanted; Kept: it is complete, and not given, for there is more or less in it than in the content.
	Directory bool      `json:"directory,omitempty"`
	Partly    bool      `json:"partly,omitempty"`
	Kept      bool      `json:"kept,omitempty"`
	Added     time.Time `json:"added"`
	Failure   *Failure  `json:"failure,omitempty"`
	Retry     time.Time `json:"retry,omitzero"` // of one that has failed: when it is tried again; missing: it is not
}

// maxNeighbours bounds those that are told of a transfer, the busiest first; Row.Peers counts all.
const maxNeighbours = 200

// Neighbour is one who exchanges a content with us.
type Neighbour struct {
	Peer     string  `json:"peer"`
	Addr     string  `json:"addr"`
	Pieces   int     `json:"pieces"` // that it has
	Received int64   `json:"received"`
	Sent     int64   `json:"sent"`
	Down     int64   `json:"down"`
	Up       int64   `json:"up"`
	Active   int     `json:"active"`        // requests to it under way
	RTT      float64 `json:"rtt,omitempty"` // round trip
}

// Line is a line of the log.
type Line struct {
	Time     time.Time `json:"time"`
	Transfer string    `json:"transfer,omitempty"`
	Text     string    `json:"text"`
}

// Detail is all of a transfer.
type Detail struct {
	Row
	Pieces     *Pieces     `json:"pieces,omitempty"` // missing while it is not known what it consists of
	Neighbours []Neighbour `json:"neighbours"`
	Speed      Speed       `json:"speed"`
	Log        []Line      `json:"log"`
}

// SwarmRow is a swarm of this machine.
type SwarmRow struct {
	ID       string   `json:"id"`
	Peer     string   `json:"peer"`
	Role     string   `json:"role"`
	Servers  []string `json:"servers"`
	State    string   `json:"state"`   // connected, away, failed
	Serving  bool     `json:"serving"` // its server runs in this peer
	Addr     string   `json:"addr,omitempty"`
	Sessions int      `json:"sessions"` // connections with other peers
	Failure  *Failure `json:"failure,omitempty"`
}

// Stats are figures of the whole peer.
type Stats struct {
	Name      string        `json:"name"`
	Version   string        `json:"version"`
	Started   time.Time     `json:"started"`
	Down      int64         `json:"down"`
	Up        int64         `json:"up"`
	Received  int64         `json:"received"`
	Wasted    int64         `json:"wasted"`
	Sent      int64         `json:"sent"`
	Completed int64         `json:"completed"` // downloads that became complete since the start
	Failed    int64         `json:"failed"`    // transfers that failed since the start
	Banned    int64         `json:"banned"`    // peers that were cut off for wrong data since the start
	Stalled   int           `json:"stalled"`   // downloads to which nobody gives
	States    map[State]int `json:"states"`
	Limits    Limits        `json:"limits"`
	Now       Rates         `json:"now"` // the limits that hold now
	Swarms    []SwarmRow    `json:"swarms"`
	Speed     *Speed        `json:"speed,omitempty"` // only where it is asked for
}

// progress returns how the exchange of a transfer goes, if it is exchanged.
func (t *transfer) progress() (p exchange.Progress, ok bool) {
	switch {
	case t.sharing != nil && !t.twin:
		return t.sharing.Progress(), true
	case t.fetch != nil:
		return t.fetch.Status().Exchange, true
	}
	return p, false
}

// row describes a transfer.
func (t *transfer) row() Row {
	h := t.was()
	r := Row{
		ID: t.ID, Kind: t.Kind, State: t.state, Name: t.Name, Path: t.Path, Folder: t.Folder, Swarm: t.Swarm, Content: t.Content,
		Size: t.Size, Paused: t.Paused, Added: t.Added, Failure: t.failure, Already: t.already, Resumed: h.resumed,
		Received: h.received, Wasted: h.wasted, Sent: h.sent, Given: h.given,
		Directory: t.Directory, Partly: len(t.Only)+len(t.Except) > 0, Kept: t.kept, Retry: h.retry, DiskFull: t.full != nil,
	}
	if t.Kind == Share || t.Complete {
		r.Done = t.Size
	}
	if t.sharing != nil {
		r.Given += int(t.sharing.Copies.Load())
	}
	if t.state == Hashing {
		if t.checked != nil {
			r.Checked = min(t.checked.Load(), max(t.Size, 0))
		}
		if t.Kind == Share {
			r.Done = 0
		}
	}
	if t.fetch != nil {
		t.fetchRow(&r)
	}
	p, ok := t.progress()
	if !ok {
		return r
	}
	r.Received, r.Wasted, r.Sent = h.received+p.Received, h.wasted+p.Wasted, h.sent+p.Sent
	r.Down, r.Up, r.Peers, r.DiskFull = int64(h.down), int64(h.up), len(p.Neighbours), p.Paused
	for _, n := range p.Neighbours {
		if n.Active > 0 {
			r.Sources++
		}
	}
	return r
}

// fetchRow adds what is known of a download under way.
func (t *transfer) fetchRow(r *Row) {
	st := t.fetch.Status()
	r.Resumed = st.Resumed
	if st.Size > 0 {
		r.Size = st.Size
	}
	switch st.Phase {
	case node.Checking:
		r.State, r.Checked = Hashing, min(st.Checked, st.Size)
	case node.Fetching:
		r.State, r.Done, r.Arriving = Downloading, st.Exchange.Done, st.Exchange.Arriving
		if st.Exchange.Rate >= 1 {
			r.ETA = float64(st.Size-st.Exchange.Done) / st.Exchange.Rate
		}
	case node.Complete:
		r.State, r.Done = Complete, st.Size
	}
	if t.Paused && r.State != Complete {
		r.State, r.ETA = Paused, 0
	}
}

// neighbours lists who exchanges a transfer with us.
func (t *transfer) neighbours() []Neighbour {
	out := []Neighbour{}
	p, _ := t.progress()
	for _, n := range p.Neighbours {
		row := Neighbour{
			Peer: identity.PeerShort(n.Peer), Addr: n.Name, Pieces: int(n.Pieces), Received: n.Received, Sent: n.Sent, Active: n.Active,
			RTT: n.RTT.Seconds(),
		}
		if was, ok := t.was().seen[n.Name]; ok {
			row.Down, row.Up = int64(was.down), int64(was.up)
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b Neighbour) int { return int(b.Down + b.Up - a.Down - a.Up) })
	return out[:min(len(out), maxNeighbours)]
}

// detail describes all of a transfer.
func (t *transfer) detail() Detail {
	d := Detail{Row: t.row(), Neighbours: t.neighbours(), Speed: t.was().history.speed(), Log: slices.Clone(t.was().log)}
	if d.Log == nil {
		d.Log = []Line{}
	}
	switch {
	case t.fetch != nil:
		if have := t.fetch.Pieces(); have != nil {
			size := int64(0)
			if g, err := content.GeometryOf(t.Size); err == nil {
				size = g.Piece
			}
			p := columns(have, size)
			p.under(t.fetch.Status().Exchange.Under)
			d.Pieces = &p
		}
	case t.sharing != nil:
		g := t.sharing.Manifest.Geo
		p := whole(int(g.Pieces), g.Piece)
		d.Pieces = &p
	}
	return d
}

// look measures the speed of a transfer since the last look, dt seconds ago.
func (t *transfer) look(dt float64) (down, up float64) {
	p, ok := t.progress()
	if !ok {
		if t.quiet(); t.past != nil {
			t.past.history.add(0, 0)
		}
		return 0, 0
	}
	if t.past == nil && p.Received == 0 && p.Sent == 0 && len(p.Neighbours) == 0 {
		return 0, 0
	}
	h := t.has()
	down, up = max(float64(p.Received-h.lookReceived)/dt, 0), max(float64(p.Sent-h.lookSent)/dt, 0)
	h.lookReceived, h.lookSent = p.Received, p.Sent
	// What is shown is a mean over about three seconds.
	h.down, h.up = mean(h.down, down, dt), mean(h.up, up, dt)
	h.history.add(down, up)
	h.lookAtNeighbours(p.Neighbours, dt)
	return down, up
}

func mean(old, now, dt float64) float64 {
	v := old + (now-old)*min(1, dt/3)
	if v < 1 {
		return 0
	}
	return v
}

// pace is how fast a neighbour is.
type pace struct {
	received, sent int64
	down, up       float64
}

func (h *past) lookAtNeighbours(all []exchange.Neighbour, dt float64) {
	if len(all) == 0 {
		h.seen = nil
		return
	}
	seen := make(map[string]pace, len(all))
	for _, n := range all {
		was := h.seen[n.Name]
		seen[n.Name] = pace{
			n.Received, n.Sent, mean(was.down, max(float64(n.Received-was.received)/dt, 0), dt),
			mean(was.up, max(float64(n.Sent-was.sent)/dt, 0), dt),
		}
	}
	h.seen = seen
}
