package status

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// Ask returns the state of the node at addr, a path or ADDRESS:PORT.
func Ask(ctx context.Context, addr string) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			network := "tcp"
			if strings.HasPrefix(addr, "/") {
				network = "unix"
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tcpcopy/", nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s: %s: %s", addr, resp.Status,
			strings.TrimSpace(string(text[:min(len(text), 100)])))
	}
	n := new(Node)
	if err := json.Unmarshal(text, n); err != nil {
		return nil, fmt.Errorf("ask %s: not a node's answer: %w", addr, err)
	}
	return n, nil
}
