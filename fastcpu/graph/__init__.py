"""The graph of runtime ops: its data (ir), its rules (verify), what rewrites it (passes) and why not (trace)."""
