# The quickstart: at most €20 a month without VAT, ten hours of GPU included. `python -m terraform.cost` shows what each part costs.

queue_engine    = "valkey"
queue_node_type = "cache.t4g.micro"
gpu_volume_gb   = 30
tls             = false
canary          = "lambda"
trace_schedules = false
bill_hours      = 24

fixed_usd_per_month = 15.95
