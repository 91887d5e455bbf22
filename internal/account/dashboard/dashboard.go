// Package dashboard serves a page that shows a fleet, live, in a browser. The page is embedded: it
// needs nothing from elsewhere, and nothing can be changed by it.
//
// Read static/app.js for what is shown. Package web decides who may read.
package dashboard

import (
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/history"
	"tcpcopy/internal/account/page"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/account/web"
)

//go:embed static
var static embed.FS

// policy lets the page load only what this server has.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// every is the time between two states.
const every = time.Second

// Explain returns the text about a code of the doctor; empty if there is no such code.
type Explain func(code string) string

// Handler returns the handler of the page of f.
func Handler(f *fleet.Fleet, explain Explain) http.Handler {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the directory is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /events", &web.Events{Every: every, Get: func() ([]byte, uint64, bool) {
		s := f.State()
		text, err := json.Marshal(newState(s))
		return text, number(s), err == nil
	}})
	mux.HandleFunc("GET /course", func(w http.ResponseWriter, _ *http.Request) {
		c := history.CourseOf(f.State().Points)
		if c == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(c) // fails if the reader hangs up
	})
	mux.HandleFunc("GET /explain", func(w http.ResponseWriter, r *http.Request) {
		text := explain(r.URL.Query().Get("code"))
		if text == "" {
			http.Error(w, "there is no such code", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, text)
	})
	mux.Handle("GET /sessions", status.Sessions(f.Sessions))
	mux.Handle("GET /", http.FileServerFS(files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		mux.ServeHTTP(w, r)
	})
}

// Listen serves the page of f at addr, IP:PORT.
func Listen(addr string, a web.Access, f *fleet.Fleet, x Explain) (*web.Server, error) {
	s, err := web.Listen(addr, a, Handler(f, x))
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	return s, nil
}

// state is what the page gets each second.
type state struct {
	Nodes []node         `json:"nodes"`
	Total *export.Report `json:"total"` // null: no copier has answered yet
	Flow  string         `json:"flow"`  // an SVG picture
	Drops []page.Drop    `json:"drops"`
	Last  *export.Course `json:"last,omitempty"` // the newest interval
	// MoreCells is how many differences of answers are left out of Total.
	MoreCells int `json:"more_cells,omitempty"`
}

// shownCells is how many differences of answers the page gets, those with the most evidence.
const shownCells = 50

type node struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Error string `json:"error,omitempty"`
}

// number returns the number of a fleet's state; 0 if there is none.
func number(s *fleet.State) uint64 {
	if s.Total == nil {
		return 0
	}
	return s.Total.Sequence
}

func newState(s *fleet.State) *state {
	v := &state{Total: s.Total, Nodes: []node{}, Drops: []page.Drop{}}
	for _, n := range s.Nodes {
		one := node{Name: n.Name()}
		if n.Status != nil {
			one.Kind = n.Status.Kind
		}
		if n.Err != nil {
			one.Error = n.Err.Error()
		}
		v.Nodes = append(v.Nodes, one)
	}
	if s.Total == nil {
		return v
	}
	if c := s.Total.Compare; c != nil && len(c.Cells) > shownCells {
		short, total := *c, *s.Total
		short.Cells = c.Cells[:shownCells]
		total.Compare = &short
		v.Total, v.MoreCells = &total, len(c.Cells)-shownCells
	}
	v.Flow = string(page.Flow(s.Total))
	v.Drops = append(v.Drops, page.Drops(s.Total)...)
	v.Last = history.CourseOf(s.Points[max(0, len(s.Points)-2):])
	return v
}
