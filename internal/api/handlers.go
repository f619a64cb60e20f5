package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"
)

func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document)
	return nil
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) error {
	st, err := s.cfg.Engine.Stats(r.Context(), true)
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, st)
}

// Lines is the answer of the log.
type Lines struct {
	Lines []daemon.Line `json:"lines"`
}

func (s *Server) lines(w http.ResponseWriter, r *http.Request) error {
	lines, err := s.cfg.Engine.Log(r.Context())
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, Lines{lines})
}

// Transfers is a part of the list.
type Transfers struct {
	Total     int          `json:"total"`
	From      int          `json:"from"`
	Transfers []daemon.Row `json:"transfers"`
}

func (s *Server) transfers(w http.ResponseWriter, r *http.Request) error {
	from, err := number(r, "from", 0, 1<<30)
	if err != nil {
		return err
	}
	most, err := number(r, "limit", pageRows, maxPage)
	if err != nil {
		return err
	}
	rows, total, err := s.cfg.Engine.List(r.Context(), from, most)
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, Transfers{total, from, rows})
}

func (s *Server) transfer(w http.ResponseWriter, r *http.Request) error {
	d, err := s.cfg.Engine.Detail(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, d)
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	if err := s.cfg.Engine.Remove(r.Context(), r.PathValue("id"), r.URL.Query().Get("data") == "true"); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) pause(w http.ResponseWriter, r *http.Request) error {
	return s.change(w, r, s.cfg.Engine.Pause)
}

func (s *Server) resume(w http.ResponseWriter, r *http.Request) error {
	return s.change(w, r, s.cfg.Engine.Resume)
}

func (s *Server) change(w http.ResponseWriter, r *http.Request, do func(context.Context, string) (daemon.Row, error)) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	row, err := do(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, row)
}

func (s *Server) share(w http.ResponseWriter, r *http.Request) error {
	var req daemon.ShareRequest
	if err := receive(r, &req); err != nil {
		return err
	}
	var err error
	if req.Path, err = s.allowed(r, req.Path); err != nil {
		return err
	}
	row, err := s.cfg.Engine.AddShare(r.Context(), req)
	if err != nil {
		return err
	}
	return send(w, http.StatusCreated, row)
}

func (s *Server) download(w http.ResponseWriter, r *http.Request) error {
	var req daemon.DownloadRequest
	if err := receive(r, &req); err != nil {
		return err
	}
	var err error
	if req.Dir, err = s.allowed(r, req.Dir); err != nil {
		return err
	}
	if strings.HasPrefix(req.What, "shoal://") {
		if _, err := s.linkFrom(r, req.What); err != nil {
			return err
		}
	}
	row, err := s.cfg.Engine.AddDownload(r.Context(), req)
	if err != nil {
		return err
	}
	return send(w, http.StatusCreated, row)
}

func (s *Server) limits(w http.ResponseWriter, r *http.Request) error {
	st, err := s.cfg.Engine.Stats(r.Context(), false)
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, st.Limits)
}

func (s *Server) setLimits(w http.ResponseWriter, r *http.Request) error {
	var l daemon.Limits
	if err := receive(r, &l); err != nil {
		return err
	}
	if err := s.cfg.Engine.SetLimits(r.Context(), &l); err != nil {
		return err
	}
	return send(w, http.StatusOK, l)
}

func (s *Server) resetLimits(w http.ResponseWriter, r *http.Request) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	if err := s.cfg.Engine.SetLimits(r.Context(), nil); err != nil {
		return err
	}
	return s.limits(w, r)
}

// Swarms is the swarms of this machine.
type Swarms struct {
	Swarms []daemon.SwarmRow `json:"swarms"`
}

func (s *Server) swarms(w http.ResponseWriter, r *http.Request) error {
	st, err := s.cfg.Engine.Stats(r.Context(), false)
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, Swarms{st.Swarms})
}

// LinkText is a link: to a swarm, or to a content of one.
type LinkText struct {
	Link string `json:"link"`
}

func (s *Server) join(w http.ResponseWriter, r *http.Request) error {
	var req LinkText
	if err := receive(r, &req); err != nil {
		return err
	}
	link, err := s.linkFrom(r, req.Link)
	if err != nil {
		return err
	}
	row, err := s.cfg.Engine.Join(r.Context(), link)
	if err != nil {
		return err
	}
	return send(w, http.StatusCreated, row)
}

// linkFrom reads a link. One that came over the network must not have us connect to what only this machine can reach: the addresses
// where clouds tell machines their secrets are such. Whoever has the token may name all others; there nothing is said but that we look for
// a swarm, before the other has proved to be its server.
func (s *Server) linkFrom(r *http.Request, text string) (identity.Link, error) {
	link, err := identity.ParseLink(text)
	if err != nil || isLocal(r) {
		return link, err
	}
	for _, addr := range link.Addrs {
		host, _, _ := net.SplitHostPort(addr)
		ip, err := netip.ParseAddr(host)
		if ip = ip.Unmap(); err == nil && (ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified()) {
			return link, &refusal{
				http.StatusForbidden, "E-USAGE", clean(addr) + " is no address of a swarm server", "it means something else on each machine",
				"use the server's address in the network, or  shoal join  on the machine itself",
			}
		}
	}
	return link, nil
}

// LinkRequest says what a link is to lead to.
type LinkRequest struct {
	Transfer string `json:"transfer,omitempty"` // empty: to the swarm alone
}

func (s *Server) link(w http.ResponseWriter, r *http.Request) error {
	var req LinkRequest
	if err := receive(r, &req); err != nil {
		return err
	}
	link, err := s.cfg.Engine.Link(r.Context(), r.PathValue("swarm"), req.Transfer)
	if err != nil {
		return err
	}
	return send(w, http.StatusCreated, LinkText{link})
}

// File is what a swarm has under a name.
type File struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Size    int64  `json:"size"`
	Holders uint64 `json:"holders"`
	Seeds   uint64 `json:"seeds"`
	Age     uint64 `json:"age"` // seconds
	By      string `json:"by"`
	Kind    string `json:"kind"` // file or directory
}

// Files is a part of what a swarm has.
type Files struct {
	Total int    `json:"total"`
	From  int    `json:"from"`
	Files []File `json:"files"`
}

func (s *Server) swarmFiles(w http.ResponseWriter, r *http.Request) error {
	from, err := number(r, "from", 0, 1<<30)
	if err != nil {
		return err
	}
	most, err := number(r, "limit", pageRows, 1<<20)
	if err != nil {
		return err
	}
	out := Files{From: from, Files: []File{}}
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	err = s.cfg.Engine.InSwarm(ctx, r.PathValue("swarm"), func(ctx context.Context, m *node.Member) error {
		entries, err := m.List(ctx)
		if err != nil {
			return err
		}
		out.Total = len(entries)
		for _, f := range entries[min(from, len(entries)):min(from+most, len(entries))] {
			out.Files = append(out.Files, File{f.Name, f.ID.String(), f.Size, f.Holders, f.Seeds, f.Age, identity.PeerText(f.By), f.Kind.String()})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, out)
}

// Member is one who is in a swarm.
type Member struct {
	Peer     string   `json:"peer"`
	Name     string   `json:"name"`
	Role     string   `json:"role"` // empty: a classic peer
	Addrs    []string `json:"addrs"`
	Online   bool     `json:"online"`
	Removed  bool     `json:"removed"`
	Shares   uint64   `json:"shares"`
	Protocol string   `json:"protocol"`
	Self     bool     `json:"self"` // this peer
}

// Members is who is in a swarm, with its server's age in seconds.
type Members struct {
	Up      float64  `json:"up"`
	Members []Member `json:"members"`
}

func (s *Server) members(w http.ResponseWriter, r *http.Request) error {
	out := Members{Members: []Member{}}
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	err := s.cfg.Engine.InSwarm(ctx, r.PathValue("swarm"), func(ctx context.Context, m *node.Member) error {
		all, err := m.Who(ctx, r.URL.Query().Get("all") == "true")
		if err != nil {
			return err
		}
		out.Up = m.ServerAge().Seconds()
		for _, who := range all {
			row := Member{
				Peer: identity.PeerText(who.ID), Name: who.Name, Role: who.Role, Addrs: who.Addrs, Online: who.Online, Removed: who.Removed,
				Shares: who.Shares, Protocol: "shoal/2", Self: who.ID == m.Self(),
			}
			if who.Role == "" {
				row.Protocol, row.Peer = "classic", ""
			}
			if row.Addrs == nil {
				row.Addrs = []string{}
			}
			out.Members = append(out.Members, row)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return send(w, http.StatusOK, out)
}

// Entry is something in a folder.
type Entry struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Folder bool   `json:"folder"`
	Size   int64  `json:"size"`
}

// Folder is what lies in a folder, or the roots.
type Folder struct {
	Path    string  `json:"path"` // empty: these are the roots
	Up      string  `json:"up"`   // the folder above; empty: the roots
	More    bool    `json:"more"` // there are more than are told
	Entries []Entry `json:"entries"`
}

// maxEntries bounds what is told of one folder.
const maxEntries = 2000

func (s *Server) folders(w http.ResponseWriter, r *http.Request) error {
	out := Folder{Entries: []Entry{}}
	path := r.URL.Query().Get("path")
	if path == "" {
		for _, root := range s.roots(r) {
			out.Entries = append(out.Entries, Entry{Name: root, Path: root, Folder: true})
		}
		return send(w, http.StatusOK, out)
	}
	path, err := s.allowed(r, path)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	out.Path = path
	if up := filepath.Dir(path); s.below(r, up) {
		out.Up = up
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || strings.HasPrefix(e.Name(), ".") || !fi.IsDir() && !fi.Mode().IsRegular() {
			continue
		}
		if len(out.Entries) == maxEntries {
			out.More = true
			break
		}
		out.Entries = append(out.Entries, Entry{e.Name(), filepath.Join(path, e.Name()), fi.IsDir(), fi.Size()})
	}
	slices.SortStableFunc(out.Entries, func(a, b Entry) int {
		if a.Folder != b.Folder {
			if a.Folder {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return send(w, http.StatusOK, out)
}

// roots are the folders from which a request may choose.
func (s *Server) roots(r *http.Request) []string {
	if isLocal(r) {
		return []string{string(filepath.Separator)}
	}
	return s.cfg.Roots()
}

// allowed returns a path with its symbolic links resolved, if a request may name it.
func (s *Server) allowed(r *http.Request, path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", &refusal{http.StatusBadRequest, "E-USAGE", "the path must be an absolute one", "it is " + clean(path), "see /api/v1/openapi.json"}
	}
	if isLocal(r) {
		return filepath.Clean(path), nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		// What does not exist is told only below the roots.
		if !s.below(r, filepath.Clean(path)) {
			return "", s.outside(path)
		}
		return "", err
	}
	if !s.below(r, real) {
		return "", s.outside(path)
	}
	return real, nil
}

func (s *Server) outside(path string) error {
	return &refusal{
		http.StatusForbidden, "E-ROOT", clean(path) + " lies outside the folders that the page may use", "",
		"add the folder to  roots  in the peer's configuration, or use  shoal share  on the machine itself",
	}
}

// below says whether a resolved path lies in one of the roots.
func (s *Server) below(r *http.Request, path string) bool {
	for _, root := range s.roots(r) {
		real, err := filepath.EvalSymlinks(root)
		if err != nil {
			continue
		}
		if rel, err := filepath.Rel(real, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}
