package api

import (
	_ "embed"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/swarm"
)

//go:embed swarm-openapi.json
var swarmDocument []byte

// SwarmConfig says how a [SwarmServer] works.
type SwarmConfig struct {
	Overview    func() swarm.Overview
	Explain     func(error) *daemon.Failure
	Token       string
	Page        fs.FS
	URL         string // of the page
	Fingerprint string // the fingerprint of a certificate that was made here for it; empty: there is none
	Swarm       string // the swarm's id
	Name        string // of this machine, for people
	Version     string
	Log         *slog.Logger
}

// SwarmServer is the HTTP face of a swarm server: what people are shown of the swarm. Nothing can be changed over it.
type SwarmServer struct {
	door
	cfg      SwarmConfig
	patterns []string
}

// NewSwarm makes the face of a swarm server.
func NewSwarm(cfg SwarmConfig) *SwarmServer {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &SwarmServer{cfg: cfg, door: door{
		token: cfg.Token, url: cfg.URL, fingerprint: cfg.Fingerprint, cookie: "shoal-server", command: "shoal web server", page: cfg.Page, explain: cfg.Explain, log: cfg.Log,
		mux: http.NewServeMux(),
	}}
	for _, r := range []struct {
		pattern string
		handler func(w http.ResponseWriter, r *http.Request) error
	}{
		{"GET /healthz", healthy},
		{"GET /login", s.login},
		{"GET /api/v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) error { return sendDocument(w, swarmDocument) }},
		{"GET /api/v1/swarm", s.swarm},
		{"POST /api/v1/logins", s.newLogin},
	} {
		s.patterns = append(s.patterns, r.pattern)
		s.mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) {
			if err := r.handler(w, req); err != nil {
				s.fail(w, err)
			}
		})
	}
	s.mux.HandleFunc("/", s.files)
	return s
}

func healthy(w http.ResponseWriter, _ *http.Request) error {
	return send(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}

func sendDocument(w http.ResponseWriter, b []byte) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b)
	return nil
}

// SwarmView is a swarm at one moment. Lists are bounded; the counts are of all.
type SwarmView struct {
	Swarm     string        `json:"swarm"`
	Name      string        `json:"name"`
	Version   string        `json:"version"`
	Up        float64       `json:"up"` // seconds
	Members   int           `json:"members"`
	Classic   int           `json:"classic"`
	Contents  int           `json:"contents"`
	Joined    int           `json:"joined"` // since the server began
	Left      int           `json:"left"`
	Completed int           `json:"completed"`
	There     []ViewMember  `json:"there"`
	Contained []ViewContent `json:"contained"`
	Holds     [][3]int      `json:"holds"` // index of the member, index of the content, 1 if it has all of it
	News      []ViewNews    `json:"news"`
}

// ViewMember is one who is connected.
type ViewMember struct {
	Peer  string   `json:"peer"`
	Name  string   `json:"name"`
	Role  string   `json:"role"`
	Agent string   `json:"agent"`
	Site  string   `json:"site,omitempty"`
	Addrs []string `json:"addrs"`
	Holds int      `json:"holds"` // contents
	Whole int      `json:"whole"` // of which it has all
}

// ViewContent is what somebody holds.
type ViewContent struct {
	ID      string   `json:"id"`
	Names   []string `json:"names"`
	Size    int64    `json:"size"`
	Holders int      `json:"holders"`
	Seeds   int      `json:"seeds"` // who have all of it
	Age     int64    `json:"age"`   // seconds
}

// ViewNews is that somebody joined, left, or completed a content.
type ViewNews struct {
	Time    time.Time `json:"time"`
	What    string    `json:"what"`
	Peer    string    `json:"peer"`
	Name    string    `json:"name"`
	Content string    `json:"content,omitempty"`
}

func (s *SwarmServer) swarm(w http.ResponseWriter, _ *http.Request) error {
	o := s.cfg.Overview()
	v := SwarmView{
		Swarm: s.cfg.Swarm, Name: s.cfg.Name, Version: s.cfg.Version, Up: o.Up.Seconds(), Members: o.Members, Classic: o.Classic, Contents: o.Contents,
		Joined: o.Joined, Left: o.Left, Completed: o.Completed, There: []ViewMember{}, Contained: []ViewContent{}, Holds: [][3]int{}, News: []ViewNews{},
	}
	for _, m := range o.There {
		v.There = append(v.There, ViewMember{identity.PeerShort(m.Key.ID), m.Name, m.Role, m.Agent, m.Site, orNone(m.Addrs), m.Holds, m.Whole})
	}
	for _, c := range o.Contained {
		v.Contained = append(v.Contained, ViewContent{c.ID.String(), orNone(c.Names), c.Size, c.Holders, c.Seeds, c.Age})
	}
	for _, h := range o.Holds {
		all := 0
		if h.All {
			all = 1
		}
		v.Holds = append(v.Holds, [3]int{h.Member, h.Content, all})
	}
	for _, n := range o.News {
		v.News = append(v.News, ViewNews{n.Time, n.What, identity.PeerShort(n.ID), n.Name, n.Content})
	}
	return send(w, http.StatusOK, v)
}

// orNone makes a list that is sent as one even if it is empty.
func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
