# One page for who runs it and who pays for it. The widgets are in dashboard.json.tftpl; here is what is computed for them.
# Of the account's dashboards three are free, with up to 50 metrics each: this one has 50, and 12 more for each further
# GPU, with the second of which it costs $3 a month.

locals {
  metric_alarm_names = [for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name]

  # The line at which an alarm goes off, for the widget that shows its metric.
  lines = {
    for name, alarm in local.alarms : name => {
      label = "alarm ${name}: ${alarm.is} ${alarm.threshold}"
      value = alarm.threshold
      color = alarm.page ? "#d62728" : "#ff7f0e"
    }
  }

  spend_lines = [
    { label = "warning: ${var.warn_percent} %", value = var.cap_eur * var.warn_percent / 100, color = "#ff7f0e" },
    { label = "cap: the GPU is stopped", value = var.cap_eur, color = "#d62728" },
  ]

  gpu_dashboard = {
    utilisation = [for id in var.gpu_instance_ids : ["TLFIF/GPU", "nvidia_smi_utilization_gpu", "InstanceId", id, { label = id }]]
    vram = concat([], [
      for index, id in var.gpu_instance_ids : [
        [{ expression = "100 * used${index} / total${index}", id = "vram${index}", label = id }],
        ["TLFIF/GPU", "nvidia_smi_memory_used", "InstanceId", id, { id = "used${index}", visible = false }],
        ["TLFIF/GPU", "nvidia_smi_memory_total", "InstanceId", id, { id = "total${index}", visible = false }],
      ]
    ]...)
    engine = concat([], [
      for id in var.gpu_instance_ids : [
        ["TLFIF/GPU", "vllm:num_requests_running", "InstanceId", id, { label = "${id} running" }],
        ["TLFIF/GPU", "vllm:num_requests_waiting", "InstanceId", id, { label = "${id} waiting" }],
        ["TLFIF/GPU", "vllm:kv_cache_usage_perc", "InstanceId", id, { label = "${id} KV cache in use", yAxis = "right" }],
      ]
    ]...)
    # The phases that take seconds; all of them are in the worker's log, in the line `booted`.
    boot = concat([], [
      for id in var.gpu_instance_ids : [
        for phase in ["instance", "imports", "engine"] :
        ["TLFIF/GPU", "tlfif_boot_seconds", "InstanceId", id, "phase", phase, { label = "${id} ${phase}" }]
      ]
    ]...)
    node = concat([], [
      for id in var.gpu_instance_ids : [
        ["TLFIF/GPU", "mem_used_percent", "InstanceId", id, { label = "${id} memory" }],
        ["TLFIF/GPU", "disk_used_percent", "InstanceId", id, { label = "${id} disk" }],
        ["TLFIF/GPU", "tlfif_idle_seconds_left", "InstanceId", id, { label = "${id} idle seconds left", yAxis = "right" }],
      ]
    ]...)
  }

  ping_metric = concat(
    [local.ping.metric.namespace, local.ping.metric.name],
    flatten([for name, value in local.ping.metric.dimensions : [name, value]]),
    [{ stat = local.ping.metric.stat }],
  )

  errors = [for guard in local.guards : ["AWS/Lambda", "Errors", "FunctionName", var.function_names[guard], { label = guard }]]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name

  # Decoded and encoded again, so that a mistake in the template is found here and no white space is sent.
  dashboard_body = jsonencode(jsondecode(templatefile("${path.module}/dashboard.json.tftpl", {
    region  = var.region
    api_id  = var.api_id
    cluster = var.queue_cluster_id
    gpu     = local.gpu_dashboard
    ping    = local.ping_metric
    errors  = local.errors
    spend   = local.spend_lines
    line    = local.lines
    alarms = [
      for name in concat(var.budget_alarm_names, local.metric_alarm_names) :
      "arn:${var.partition}:cloudwatch:${var.region}:${var.account_id}:alarm:${name}"
    ]
  })))
}
