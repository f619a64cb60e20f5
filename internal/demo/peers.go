package demo

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/swarm"
)

// seed is a peer that shares.
type seed struct {
	run   func(ctx context.Context, ready func()) error
	sent  func() int64
	close func() error
}

// getter is a peer that downloads.
type getter struct {
	run      func(ctx context.Context) (Got, error)
	progress func() Progress
	close    func() error
}

// newServer makes the swarm server, and unless it is classic the swarm.
func (d *Demo) newServer(ln net.Listener) (serve func(context.Context) error, err error) {
	if d.cfg.Classic {
		return func(ctx context.Context) error {
			return swarm.NewServer(swarm.ServerConfig{Log: d.cfg.Log}).Serve(ctx, ln)
		}, nil
	}
	states, err := identity.OpenStates(filepath.Join(d.dir, "server"))
	if err != nil {
		return nil, err
	}
	if d.swarm, err = states.Create(); err != nil {
		return nil, err
	}
	if err := d.swarm.SetServers([]string{ln.Addr().String()}); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return node.NewServer(node.ServerConfig{Swarm: d.swarm, Log: d.cfg.Log}).Serve(ctx, ln)
	}, nil
}

// member joins the swarm as a machine of its own.
func (d *Demo) member(ctx context.Context) (*node.Member, error) {
	token, _, err := d.swarm.NewToken(identity.MemberRole, time.Hour, 1, time.Now())
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.joined++
	dir := filepath.Join(d.dir, fmt.Sprintf("member%d", d.joined))
	d.mu.Unlock()
	states, err := identity.OpenStates(dir)
	if err != nil {
		return nil, err
	}
	sw, err := node.Join(ctx, states, identity.Link{Addrs: []string{d.server}, Swarm: d.swarm.ID(), Token: token}, "demo")
	if err != nil {
		return nil, err
	}
	return node.NewMember(node.MemberConfig{Swarm: sw, Listen: "127.0.0.1:0", Log: d.cfg.Log}), nil
}

func (d *Demo) newSeed(ctx context.Context, file, name string) (seed, error) {
	if d.cfg.Classic {
		n := node.New(node.Config{Server: d.server, Listen: "127.0.0.1:0", Log: d.cfg.Log})
		if _, err := n.Share(file, name); err != nil {
			n.Close()
			return seed{}, err
		}
		return seed{
			run: func(ctx context.Context, ready func()) error {
				return n.Run(ctx, func(ctx context.Context) error { ready(); <-ctx.Done(); return nil })
			},
			sent: func() int64 { return n.Stats().Sent }, close: n.Close,
		}, nil
	}
	m, err := d.member(ctx)
	if err != nil {
		return seed{}, err
	}
	return seed{
		run: func(ctx context.Context, ready func()) error {
			return m.Run(ctx, func(ctx context.Context) error {
				if _, err := m.Share(ctx, file, name, nil); err != nil {
					return err
				}
				ready()
				<-ctx.Done()
				return nil
			})
		},
		sent: m.Sent, close: m.Close,
	}, nil
}

func (d *Demo) newGetter(ctx context.Context, name, dir string) (getter, error) {
	if d.cfg.Classic {
		n := node.New(node.Config{Server: d.server, Listen: "127.0.0.1:0", Log: d.cfg.Log})
		dl := n.NewDownload(node.Request{Name: name, Dir: dir})
		return getter{
			run: func(ctx context.Context) (got Got, err error) {
				err = n.Run(ctx, func(ctx context.Context) error {
					r, err := dl.Run(ctx)
					if err == nil {
						got = Got{r.Path, r.Fetched, r.Sources}
					}
					return err
				})
				return got, err
			},
			progress: func() Progress {
				st := dl.Status()
				return Progress{st.Transfer.Done, st.Size, st.Transfer.Rate, st.Transfer.Active, st.Phase == node.Complete}
			},
			close: n.Close,
		}, nil
	}
	m, err := d.member(ctx)
	if err != nil {
		return getter{}, err
	}
	f := m.NewFetch(node.FetchRequest{Name: name, Dir: dir, Wait: true})
	return getter{
		run: func(ctx context.Context) (got Got, err error) {
			err = m.Run(ctx, func(ctx context.Context) error {
				r, err := f.Run(ctx)
				if err != nil {
					return err
				}
				got = Got{r.Path, r.Received, r.Sources}
				f.Give(ctx, false)
				return f.Close()
			})
			return got, err
		},
		progress: func() Progress {
			st := f.Status()
			p := Progress{Done: min(st.Exchange.Done+st.Exchange.Arriving, st.Size), Size: st.Size, Rate: st.Exchange.Rate}
			p.Complete = st.Phase == node.Complete
			for _, n := range st.Exchange.Neighbours {
				if n.Active > 0 {
					p.Sources++
				}
			}
			return p
		},
		close: m.Close,
	}, nil
}
