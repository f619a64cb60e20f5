package node

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"shoal/internal/content"
	"shoal/internal/store"
	"shoal/internal/throttle"
)

// contents serves the contents that a member has whole as plain resources, /content/ID, to who has a certificate of the
// swarm or this machine's token. Ranges, conditions and HEAD are those of HTTP; the ETag is the content's id.
func (m *Member) contents() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /content/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !m.mayRead(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="shoal"`)
			http.Error(w, "a certificate of the swarm or this machine's token is needed", http.StatusUnauthorized)
			return
		}
		known(r.Context())
		id, err := content.ParseID(strings.ToLower(r.PathValue("id")))
		if err != nil {
			http.Error(w, "not a content id", http.StatusNotFound)
			return
		}
		m.mu.Lock()
		s := m.shares[id]
		m.mu.Unlock()
		if s == nil {
			http.Error(w, "no such content here", http.StatusNotFound)
			return
		}
		if m.bodies.Add(1) > maxBodies {
			m.bodies.Add(-1)
			w.Header().Set("Retry-After", "10")
			http.Error(w, "too many are being served, try again", http.StatusServiceUnavailable)
			return
		}
		defer m.bodies.Add(-1)
		kind := mime.TypeByExtension(filepath.Ext(s.Name))
		if kind == "" {
			kind = "application/octet-stream"
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("ETag", `"`+id.String()+`"`)
		if r.Method == http.MethodGet {
			defer m.x.Beside()()
		}
		own := m.ss.newLimit()
		defer m.ss.dropLimit(own)
		http.ServeContent(&paced{ResponseWriter: w, control: http.NewResponseController(w), ctx: r.Context(), limit: m.up, own: own}, r, "", time.Time{}, &verified{s: s, m: m})
		if m.bodies.Load() == 1 && m.x.Neighbours(id) == 0 { // nobody else reads it
			s.source.Rest()
		}
	})
	return mux
}

// mayRead says whether a request comes from a member, or with the token.
func (m *Member) mayRead(r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		_, _, err := m.cfg.Swarm.PeerOf(*r.TLS)
		return err == nil
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return ok && m.cfg.Swarm.CheckHTTPToken(strings.TrimSpace(token))
}

// maxBodies bounds the bodies that are served over HTTP at once.
const maxBodies = 64

// stallTime is how long a reader of HTTP may take nothing.
const stallTime = 30 * time.Second

// paced gives up a reader who takes nothing, and keeps to the limit.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
	ctx     context.Context
	limit   *throttle.Rate
	own     *throttle.Rate
}

func (w *paced) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := b[n : n+w.own.Part(w.limit.Part(len(b)-n))]
		for _, l := range []*throttle.Rate{w.own, w.limit} {
			if err := l.Wait(w.ctx, len(part)); err != nil {
				return n, err
			}
		}
		_ = w.control.SetWriteDeadline(time.Now().Add(stallTime))
		k, err := w.ResponseWriter.Write(part)
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// verified reads a shared content, as long as it is what it was.
type verified struct {
	s       *Sharing
	m       *Member
	off     int64
	checked int64 // the piece that was checked last, and one
}

func (v *verified) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += v.off
	case io.SeekEnd:
		off += v.s.Manifest.Geo.Size
	}
	if off < 0 {
		return 0, errors.New("seek before the begin")
	}
	v.off = off
	return off, nil
}

func (v *verified) Read(b []byte) (int, error) {
	g := v.s.Manifest.Geo
	if v.off >= g.Size {
		return 0, io.EOF
	}
	piece := v.off / g.Piece
	if v.checked != piece+1 {
		if err := v.s.source.CheckPiece(uint32(piece)); err != nil {
			if errors.Is(err, store.ErrChanged) {
				v.m.cfg.Warn(err.Error())
			}
			return 0, err
		}
		v.checked = piece + 1
	}
	end := g.Offset(uint32(piece)) + g.Len(uint32(piece))
	n, err := v.s.source.ReadAt(b[:min(int64(len(b)), end-v.off)], v.off)
	v.off += int64(n)
	v.m.x.Gave(int64(n))
	if n > 0 {
		err = nil
	}
	return n, err
}
