# Every alarm but those on the spend, which belong to the module budget. AWS bills for each metric of an alarm, $0.10 a
# month beyond the first ten of the account: this list is what there is to count, see the output alarm_metrics.
#
# Fields of an alarm:
#   does        what it means and what to do, the text of the mail
#   see         the part of docs/runbook.md that goes on from there
#   metrics     by their ids: namespace, name, dimensions, stat; several are added up
#   period      seconds of a data point; of the last `of` points, `breaching` have to breach
#   is          comparison, with threshold
#   missing     what a period without data is: fine (notBreaching), as bad as a breach (breaching), or no verdict
#               (missing), which shows as "insufficient data" and wakes nobody
#   page        whether it wakes somebody; otherwise it sends mail
#   tells_ok    whether its end is worth a message too: of a state, not of an event that has passed

locals {
  guards = ["budget-killer", "cost-publisher", "gauges", "reaper", "waker"]

  # The canaries say different things: ours counts failures, that of Synthetics the share of good runs.
  ping = {
    lambda = {
      metric    = { namespace = "TLFIF/Canary", name = "PingFailures", dimensions = {}, stat = "Sum" }
      is        = ">="
      threshold = 1
    }
    synthetics = {
      metric = {
        namespace  = "CloudWatchSynthetics"
        name       = "SuccessPercent"
        dimensions = { CanaryName = local.canary_name }
        stat       = "Average"
      }
      is        = "<"
      threshold = 100
    }
  }[var.canary]

  # A count of what should not happen: a single one within five minutes is told by mail, and no count is a good one.
  usual = {
    period    = 300
    breaching = 1
    of        = 1
    is        = ">="
    threshold = 1
    missing   = "notBreaching"
    page      = false
    tells_ok  = false
  }

  # What each has of its own.
  described = {
    api-latency = {
      does      = "Of the API's answers in five minutes, one in 20 took 300 ms or longer. Run the saved query to see which route; cold starts after a deployment pass by themselves."
      see       = "It is slow"
      metrics   = { latency = { namespace = "AWS/ApiGateway", name = "Latency", dimensions = { ApiId = var.api_id }, stat = "p95" } }
      threshold = 300
      missing   = "notBreaching" # nobody asked, so nobody waited
      tells_ok  = true
    }
    ping = {
      does      = "The API did not answer /ping in 3 of 5 minutes, or nobody asked. Look at the router's log and at the canary's, then at the AWS Health Dashboard."
      see       = "No reply comes"
      metrics   = { ping = local.ping.metric }
      period    = 60
      breaching = 3
      of        = 5
      is        = local.ping.is
      threshold = local.ping.threshold
      missing   = "breaching" # a canary that is dead or hangs reports nothing; the first deployment may page once
      page      = true
      tells_ok  = true
    }
    queue-health = {
      does      = "/queue-health failed in two periods of five minutes: Redis is away or slow. Look at the node's events in ElastiCache and at its security group; jobs are refused meanwhile."
      see       = "No reply comes"
      metrics   = { failures = { namespace = "TLFIF/Canary", name = "QueueHealthFailures", dimensions = {}, stat = "Sum" } }
      breaching = 2
      of        = 2
      missing   = "breaching" # as above
      tells_ok  = true
    }
    redis-memory = {
      does      = "Redis uses 70 % of its memory and refuses writes when it is full. Jobs leave after 300 s: look for a flood of them, or for keys of somebody else's, then take a larger node."
      see       = "No reply comes"
      metrics   = { memory = { namespace = "AWS/ElastiCache", name = "DatabaseMemoryUsagePercentage", dimensions = { CacheClusterId = var.queue_cluster_id }, stat = "Maximum" } }
      threshold = 70
      missing   = "missing" # a node that is away is the matter of queue-health
      tells_ok  = true
    }
    boot-failures = {
      does    = "A GPU was on for its boot deadline without a model, and stopped itself. Look at the worker's log; until it is mended every job pays for a boot in vain."
      see     = "It does not boot"
      metrics = { failures = { namespace = "TLFIF/Worker", name = "BootFailures", dimensions = {}, stat = "Sum" } }
    }
    redis-enqueue-fail = {
      does    = "The router could not queue a job, and its client got a 503. Look at the router's log for the reason; queue-health tells whether Redis is away altogether."
      see     = "No reply comes"
      metrics = { failures = { namespace = "TLFIF/Router", name = "RedisEnqueueFail", dimensions = {}, stat = "Sum" } }
    }
    reaper-blind = {
      does      = "A GPU runs, and the reaper cannot read from Redis whether it is of use: it stops it only when its session is over. Mend Redis, or stop the GPU by hand."
      see       = "It does not stop"
      metrics   = { blind = { namespace = "TLFIF/Router", name = "ReaperBlind", dimensions = {}, stat = "Sum" } }
      threshold = 3 # a single look may fail
    }
    guard-failures = {
      does = "The reaper could not stop a GPU, the waker could not start one for work that waits, or the last word on a job could not be written. Read their logs; a GPU that nobody stops is to be stopped by hand."
      see  = "It does not stop"
      metrics = {
        for id, name in { overdue = "OverdueFailures", reaper = "ReaperFailures", waker = "WakerFailures" } :
        id => { namespace = "TLFIF/Router", name = name, dimensions = {}, stat = "Sum" }
      }
    }
    guard-errors = {
      does = "A function that guards the bill failed: waker, reaper, gauges, cost-publisher or budget-killer. Read the log of the one that the dashboard shows; until then watch the GPU by hand."
      see  = "It does not stop"
      metrics = {
        for guard in local.guards : replace(guard, "-", "_") =>
        { namespace = "AWS/Lambda", name = "Errors", dimensions = { FunctionName = var.function_names[guard] }, stat = "Sum" }
      }
      missing = "notBreaching" # those two that see to the spend have alarms on their silence below
    }
    spend-unknown = {
      does      = "No CurrentSpendEUR for an hour, so that nothing warns of the spend. Look at the log and the schedule of cost-publisher; after 24 hours no GPU is started any more."
      see       = "It costs too much"
      metrics   = { reports = { namespace = "TLFIF/Cost", name = "CurrentSpendEUR", dimensions = {}, stat = "SampleCount" } }
      period    = 900
      breaching = 4
      of        = 4
      is        = "<"
      missing   = "breaching" # a period without a report is what this is about
      tells_ok  = true
    }
    gpu-unmetered = {
      does      = "Nobody has counted the seconds of the GPU for 15 minutes, so that CurrentSpendEUR lacks them. Look at the log and the schedule of gauges, and whether a GPU runs."
      see       = "It costs too much"
      metrics   = { reports = { namespace = "TLFIF/Cost", name = "GpuSeconds", dimensions = {}, stat = "SampleCount" } }
      breaching = 3
      of        = 3
      is        = "<"
      missing   = "breaching" # as above
      tells_ok  = true
    }
  }

  alarms = { for name, alarm in local.described : name => merge(local.usual, alarm) }

  comparisons = {
    ">=" = "GreaterThanOrEqualToThreshold"
    "<"  = "LessThanThreshold"
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.does} More in docs/runbook.md, \"${each.value.see}\"."
  comparison_operator = local.comparisons[each.value.is]
  threshold           = each.value.threshold
  evaluation_periods  = each.value.of
  datapoints_to_alarm = each.value.breaching
  treat_missing_data  = each.value.missing
  alarm_actions       = [local.topic_arns[each.value.page ? "page" : "alerts"]]
  ok_actions          = each.value.tells_ok ? [local.topic_arns[each.value.page ? "page" : "alerts"]] : []

  dynamic "metric_query" {
    for_each = each.value.metrics

    content {
      id          = metric_query.key
      return_data = length(each.value.metrics) == 1

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = metric_query.value.stat
        period      = each.value.period
      }
    }
  }

  dynamic "metric_query" {
    for_each = length(each.value.metrics) == 1 ? [] : [1]

    content {
      id          = "total"
      expression  = "SUM(METRICS())" # what has no data counts nothing
      label       = each.key
      return_data = true
    }
  }

  # Until the policies stand, a first alarm would reach nobody.
  depends_on = [aws_sns_topic_policy.alerts, aws_sns_topic_policy.page]
}
