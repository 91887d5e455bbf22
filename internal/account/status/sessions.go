package status

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"tcpcopy/internal/account/export"
)

// SessionsFunc returns some of the sessions of the moment; nil if they cannot be had now.
type SessionsFunc func(context.Context, export.SessionQuery) *export.Sessions

// Sessions serves sessions as JSON. The request may have an order and a filter.
func Sessions(get SessionsFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values := r.URL.Query()
		q := export.SessionQuery{Order: values.Get("order"), Filter: values.Get("filter")}
		if _, err := q.Parse(); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s := get(r.Context(), q)
		if s == nil {
			http.Error(w, "the sessions cannot be had now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s) // fails if the reader hangs up
	})
}

// Sessions asks the copier at addr for some of its sessions.
func (c *Client) Sessions(
	ctx context.Context, addr string, q export.SessionQuery,
) (*export.Sessions, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*asking)
	defer cancel()
	values := url.Values{"order": {q.Order}, "filter": {q.Filter}}
	resp, err := c.open(ctx, addr, "/sessions?"+values.Encode())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	s := new(export.Sessions)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(s); err != nil {
		return nil, fmt.Errorf("ask %s: not a node's answer: %w", addr, err)
	}
	return s, nil
}
